//! What beside the lines of a policy bears on granting it.

use pinfold_policy::{Control, PolicyFile};

use crate::cli::policy_file::Existing;
use crate::dialect::Manifest;
use crate::grants;

/// What the operator should know before saying yes.
pub(super) fn of(
    manifest: &Manifest,
    existing: Option<&Existing>,
    policy: &PolicyFile,
) -> Vec<String> {
    let mut notes = Vec::new();
    if manifest.asked.is_empty() {
        notes.push("it asks for no permission: the log is all it can reach".to_owned());
    }
    let permissions = &policy.permissions;
    if !permissions.email.is_empty() {
        notes.push("email: granted in the policy, not served by this version".to_owned());
    }
    if policy.trust.unsigned {
        notes.push("unsigned: whoever can write the plugin's directory decides what runs".into());
    }
    if let Some(Existing {
        policy: before,
        has_comments,
    }) = existing
    {
        if *has_comments {
            notes.push("the comments in the policy file are lost".to_owned());
        }
        if before.permissions.lines() != permissions.lines() {
            notes.push(
                "permissions become what the manifest asks for: edits of them by hand are lost"
                    .into(),
            );
        }
        let wished = grants::as_asked(&policy.dialect, manifest, policy.trust.clone());
        for (name, wish, kept) in [
            (
                "memory",
                wished.limits.memory.to_string(),
                before.limits.memory.to_string(),
            ),
            (
                "call",
                wished.timeouts.call.to_string(),
                before.timeouts.call.to_string(),
            ),
        ] {
            let has_wish = match name {
                "memory" => manifest.wished_memory.is_some(),
                _ => manifest.wished_call.is_some(),
            };
            if has_wish && wish != kept {
                notes.push(format!(
                    "{name}: the manifest wishes for {wish}, the policy's {kept} stays"
                ));
            }
        }
    }
    for control in [Control::Memory, Control::Processes] {
        if policy.wanted(control) != control.default_wanted() {
            notes.push(format!(
                "{control} is {}: the plugin starts even where that limit is not to be had",
                policy.wanted(control)
            ));
        }
    }
    notes
}

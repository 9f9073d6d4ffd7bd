//! What a policy file must keep to beside its shape.

use std::collections::BTreeSet;

use super::{ControlWish, PolicyError, PolicyFile};
use crate::{
    ByteSize, Control, KEYS_LIMIT, ProcView, Runtime, SIGNATURE_SUFFIX, Wanted, escape,
    is_unprintable, mount,
};

/// One thing for which a policy file is refused, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFault {
    /// Dotted path of the key, as [`crate::Places`] has it; empty where the error says the place
    /// itself, or it is the whole file's.
    pub path: String,
    /// What is wrong.
    pub error: PolicyError,
}

impl PolicyFile {
    /// Everything for which the file is refused, in the order in which it is looked at.
    pub(super) fn faults(&self) -> Vec<PolicyFault> {
        let mut faults = Faults(Vec::new());
        if self.schema != 1 {
            let schema = self.schema;
            faults.add("schema", PolicyError::Schema { schema });
        }
        self.check_trust(&mut faults);
        self.check_program(&mut faults);
        self.check_limits(&mut faults);
        self.check_permissions(&mut faults);
        for (id, wish) in &self.controls {
            if let Err(error) = check_wish(id, wish) {
                faults.add(&format!("controls.{id}"), error);
            }
        }
        for (name, value) in &self.env {
            if let Err(error) = check_variable(name, value) {
                faults.add(&format!("env.{name}"), error);
            }
        }
        faults.0
    }

    fn check_trust(&self, faults: &mut Faults) {
        let trust = &self.trust;
        let kinds = [
            trust.digest.is_some(),
            trust.unsigned,
            !trust.signed_by.is_empty(),
        ];
        let found = kinds.into_iter().filter(|kind| *kind).count();
        if found != 1 {
            faults.add("trust", PolicyError::Trust { found });
        }
        if trust.signed_by.is_empty() && (trust.package || trust.least_version.is_some()) {
            let path = if trust.package {
                "trust.package"
            } else {
                "trust.least-version"
            };
            faults.add(path, PolicyError::PackageUnsigned);
        }
        if trust.signed_by.len() > KEYS_LIMIT {
            let long = format!("{} long", trust.signed_by.len());
            faults.value("trust.signed-by", long, "there are at most 256 keys");
        }
    }

    fn check_program(&self, faults: &mut Faults) {
        let entry = self.entry.clone();
        if self.entry.ends_with(SIGNATURE_SUFFIX) {
            faults.add("entry", PolicyError::EntryIsSignature { entry });
        } else if !is_entry(&self.entry) {
            faults.add("entry", PolicyError::Entry { entry });
        } else {
            faults.printable("entry", "entry", &self.entry);
        }
        let is_wrong = |arg: &String| arg.len() > 4096 || arg.contains('\0');
        if self.args.len() > 64 || self.args.iter().any(is_wrong) {
            let long = format!("{} long", self.args.len());
            faults.value("args", long, "at most 64 of 4096 bytes, without NUL");
        }
        let groups = &self.syscall_groups;
        if let Some(group) = groups.iter().find(|group| !is_group(group)) {
            let group = format!("{:?}", group.chars().take(80).collect::<String>());
            let why = "a group's name is @ and a-z, 0-9 and -, at most 64";
            faults.value("syscall-groups", group, why);
        } else if groups.len() > GROUPS_LIMIT || BTreeSet::from_iter(groups).len() < groups.len() {
            let long = format!("{} long", groups.len());
            faults.value("syscall-groups", long, "at most 16, each once");
        }
        if self.proc == ProcView::Full && self.wanted(Control::Proc) == Wanted::Off {
            let why = "[controls] switches proc off: take one of the two away";
            faults.value("proc", "\"full\"".to_owned(), why);
        }
        if let Some((key, value, why)) = self.runtime.as_ref().and_then(Runtime::fault) {
            faults.value(key, value, why);
        }
        for (number, key, value, why) in mount::faults(&self.mounts, self.runtime.as_ref()) {
            let path = key.replacen("mounts", &format!("mounts[{number}]"), 1);
            faults.add(&path, PolicyError::Value { key, value, why });
        }
    }

    /// Most of these are a plugin's own words: what it asked for, once it is granted. None of them can
    /// look like another, or like lines of the file itself.
    fn check_permissions(&self, faults: &mut Faults) {
        let permissions = &self.permissions;
        for (number, grant) in permissions.db.iter().enumerate() {
            let path = format!("permissions.db[{number}]");
            let key = "permissions.db.database";
            faults.printable(key, &format!("{path}.database"), &grant.database);
            for (at, table) in grant.tables.iter().enumerate() {
                let key = "permissions.db.tables";
                faults.printable(key, &format!("{path}.tables[{at}]"), table.as_str());
            }
        }
        for (number, grant) in permissions.http.iter().enumerate() {
            if let Some((value, why)) = grant.fault() {
                let key = "permissions.http";
                let value = escape(&value).into_owned();
                let error = PolicyError::Value { key, value, why };
                faults.add(&format!("{key}[{number}]"), error);
            }
        }
        for (key, patterns) in [
            ("permissions.email", &permissions.email),
            ("permissions.config", &permissions.config),
            ("permissions.plugin-call", &permissions.plugin_call),
        ] {
            for (at, pattern) in patterns.iter().enumerate() {
                faults.printable(key, &format!("{key}[{at}]"), pattern.as_str());
            }
        }
    }

    fn check_limits(&self, faults: &mut Faults) {
        let limits = &self.limits;
        if limits.memory < ByteSize::mebibytes(8) {
            let why = "no program starts in less than 8MiB";
            faults.value("limits.memory", limits.memory.to_string(), why);
        }
        if limits.tmp.0 > limits.memory.0 / 4 {
            let why = "it is used twice and counts as memory: at most a quarter of limits.memory";
            faults.value("limits.tmp", limits.tmp.to_string(), why);
        }
        if !(4..=32_768).contains(&limits.processes) {
            let processes = limits.processes.to_string();
            faults.value("limits.processes", processes, "write 4 to 32768");
        }
        if !(16..=65_536).contains(&limits.files) {
            faults.value(
                "limits.files",
                limits.files.to_string(),
                "write 16 to 65536",
            );
        }
        if limits.state < LEAST_STATE {
            let why = "write at least 1MiB";
            faults.value("limits.state", limits.state.to_string(), why);
        }
        if limits.state_files < LEAST_STATE_FILES {
            let state_files = limits.state_files.to_string();
            faults.value("limits.state-files", state_files, "write at least 16");
        }
        let processors = &limits.cpu_affinity;
        let is_wrong = |number: &u16| *number >= PROCESSORS_LIMIT;
        if processors.iter().any(is_wrong)
            || BTreeSet::from_iter(processors).len() < processors.len()
        {
            let value = format!("{processors:?}");
            faults.value("limits.cpu-affinity", value, "each once, 0 to 1023");
        }
        for (key, value, why) in limits.io.faults() {
            faults.value(key, value, why);
        }
        let io = Control::Io;
        if limits.io.is_empty() && self.wanted(io) == Wanted::Required {
            let why = "[controls] requires io: say how much";
            faults.value("limits.io", "absent".to_owned(), why);
        }
    }
}

/// The directory itself takes some of it, and xfs reserves some to make a file.
const LEAST_STATE: ByteSize = ByteSize::mebibytes(1);

/// And is one of these.
const LEAST_STATE_FILES: u32 = 16;

/// Processors that sched_setaffinity(2) knows by the set of fixed size.
const PROCESSORS_LIMIT: u16 = 1024;

struct Faults(Vec<PolicyFault>);

impl Faults {
    fn add(&mut self, path: &str, error: PolicyError) {
        let path = path.to_owned();
        self.0.push(PolicyFault { path, error });
    }

    fn value(&mut self, key: &'static str, value: String, why: &'static str) {
        self.add(key, PolicyError::Value { key, value, why });
    }

    /// Refuses a text with characters that are not shown.
    fn printable(&mut self, key: &'static str, path: &str, text: &str) {
        if text.chars().any(is_unprintable) {
            let start: String = text.chars().take(80).collect();
            let value = format!("\"{}\"", escape(&start));
            let why = "it has control characters, or some that turn the direction of writing";
            self.add(path, PolicyError::Value { key, value, why });
        }
    }
}

/// Most groups of a syscall profile that one policy switches on.
const GROUPS_LIMIT: usize = 16;

/// Whether a text can be the name of a group of a syscall profile.
fn is_group(name: &str) -> bool {
    name.strip_prefix('@').is_some_and(|rest| {
        (1..64).contains(&rest.len())
            && rest
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    })
}

/// Relative, `/`-separated, no empty, `.` or `..` part, at most 512 bytes.
fn is_entry(entry: &str) -> bool {
    entry.len() <= 512
        && !entry.contains('\0')
        && entry
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."))
}

fn check_wish(id: &str, wish: &ControlWish) -> Result<(), PolicyError> {
    let Some(control) = Control::from_id(id) else {
        let known = Control::ALL.iter().map(|control| control.id());
        return Err(PolicyError::Control {
            control: id.into(),
            nearest: crate::nearest(id, known),
        });
    };
    let (wanted, reason) = match wish {
        ControlWish::Plain(wanted) => (*wanted, None),
        ControlWish::Lowered { wanted, reason } => (*wanted, Some(reason.trim())),
    };
    let lowered = control.default_wanted() == Wanted::Required && wanted != Wanted::Required;
    if lowered && !(control.may_be_lowered() && reason.is_some_and(|reason| !reason.is_empty())) {
        return Err(PolicyError::Lowered { control, wanted });
    }
    Ok(())
}

/// Most bytes of one variable's value.
const VARIABLE_LIMIT_BYTES: usize = 4096;

fn check_variable(name: &str, value: &str) -> Result<(), PolicyError> {
    let refuse = |why| {
        Err(PolicyError::Environment {
            name: name.chars().take(80).collect(),
            why,
        })
    };
    let shaped = !name.is_empty()
        && name.len() <= 128
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if !shaped {
        return refuse("a name is letters, digits and _, at most 128");
    }
    if value.len() > VARIABLE_LIMIT_BYTES || value.contains('\0') {
        return refuse("a value is at most 4096 bytes without NUL");
    }
    if name.starts_with("LD_") || matches!(name, "GODEBUG" | "PYTHONPATH" | "NODE_PATH") {
        return refuse("it changes what code is loaded");
    }
    if name.starts_with("PLUGIN_") {
        return refuse("the handshake's variables are the host's");
    }
    Ok(())
}

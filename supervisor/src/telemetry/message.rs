//! The events that operators watch for, each with an id of its own in the journal (`MESSAGE_ID=`, see
//! systemd.journal-fields(7)). An id stays with its event for ever; the text may change.

/// An event and its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// What is logged, to the letter.
    pub(crate) text: &'static str,
    /// 32 digits of hexadecimal.
    pub(crate) id: &'static str,
}

/// Longest text among [`MESSAGES`], in bytes.
pub(crate) const LONGEST_BYTES: usize = 64;

/// Every event with an id. `systemd/pinfold.catalog` explains each, and docs/operations/monitor.md lists them.
pub(crate) const MESSAGES: &[Message] = &[
    Message {
        text: "plugin ready",
        id: "4f69d03266354cca87f591afb74c804f",
    },
    Message {
        text: "plugin degraded",
        id: "e808d75a425640da8b8b40e8800d86d3",
    },
    Message {
        text: "plugin backs off",
        id: "176d58760c2846c4b7d4dd3332e2f7cf",
    },
    Message {
        text: "plugin failed",
        id: "13b217659a1d486bb5a083dd00901ac9",
    },
    Message {
        text: "plugin blocked",
        id: "4116dee7f15a41319fffe63685cab4e1",
    },
    Message {
        text: "new version not taken, the old one goes on",
        id: "576b8d1b2266464d9ac5cba1338348fd",
    },
    Message {
        text: "plugin goes on without trust, and cannot be started again",
        id: "d94b9e5291ee43cf842d48df76d291bc",
    },
    Message {
        text: "plugin made a system call that is refused",
        id: "bf66b22479d44a3aa73fcb7376595bcc",
    },
    Message {
        text: "plugin killed for want of memory",
        id: "38f1f66bd31e4128bd38011696ffa5e7",
    },
    Message {
        text: "control in force no more",
        id: "55fcfe19d62c4d6b9eadc4e4fea54df1",
    },
    Message {
        text: "audit record",
        id: "f52c33916b1f49b4973813973d62c84f",
    },
    Message {
        text: "audit head",
        id: "f3606f25720f4e8e8f92f52497bd6a6b",
    },
    Message {
        text: "audit records not written, kept to be tried again",
        id: "326066912561469db11ac9df3714a711",
    },
    Message {
        text: "audit records dropped",
        id: "217df00195b94d7998046a4fe68f0f64",
    },
    Message {
        text: "record for the audit trail not taken",
        id: "e2c53ca391124e408f4ba35f794550db",
    },
    Message {
        text: "configuration refused, nothing changed",
        id: "37c9dedaa22546c5a54fe981fef1dff4",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Every source file of this crate, as one text.
    fn sources(directory: &Path) -> String {
        let mut all = String::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all += &sources(&path);
            } else if !path.ends_with("telemetry/message.rs") {
                all += &fs::read_to_string(path).unwrap();
            }
        }
        all
    }

    #[test]
    fn every_event_is_logged_explained_and_listed_under_its_id() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: &str| fs::read_to_string(root.join("..").join(path)).unwrap();
        let (catalog, page) = (
            read("systemd/pinfold.catalog"),
            read("docs/operations/monitor.md"),
        );
        let sources = sources(&root.join("src"));
        let mut ids = BTreeSet::new();
        for Message { text, id } in MESSAGES {
            assert!(text.len() <= LONGEST_BYTES, "{text}");
            assert!(
                sources.contains(&format!("\"{text}\"")),
                "nobody logs {text:?}"
            );
            let is_id =
                id.len() == 32 && id.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
            assert!(is_id && ids.insert(*id), "{id}");
            assert!(catalog.contains(&format!("-- {id}\nSubject: ")), "{text}");
            assert!(
                page.contains(&format!("| `{id}` | {text} |")),
                "{text}: {id}"
            );
        }
        let explained = catalog.lines().filter(|line| line.starts_with("-- "));
        assert_eq!(explained.count(), ids.len());
    }
}

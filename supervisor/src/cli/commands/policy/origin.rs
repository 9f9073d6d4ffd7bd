//! Where something that holds for a plugin is from.

use std::fmt;
use std::path::Path;

use pinfold_policy::{Place, Places};
use serde::Serialize;

/// A file and a line, or what this version brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Origin {
    /// `policy`, `default`, `template`, `profile`, `launcher`, `key` or `manifest`.
    kind: &'static str,
    /// Absent where it is compiled in.
    file: Option<String>,
    line: Option<usize>,
    /// What the line says; absent where there is none.
    text: Option<String>,
}

impl Origin {
    /// A place in a document, or the document as a whole.
    pub(super) fn of(
        kind: &'static str,
        file: Option<&Path>,
        places: &Places,
        place: Option<Place>,
    ) -> Self {
        Self {
            kind,
            file: file.map(|path| path.display().to_string()),
            line: place.map(|place| place.line),
            text: place.map(|place| places.line(place.line).trim().to_owned()),
        }
    }

    /// A file that has no lines of ours.
    pub(super) fn file(kind: &'static str, file: &Path) -> Self {
        Self {
            kind,
            file: Some(file.display().to_string()),
            line: None,
            text: None,
        }
    }

    /// What holds where no file says anything.
    pub(super) const fn default() -> Self {
        Self {
            kind: "default",
            file: None,
            line: None,
            text: None,
        }
    }

    /// What the line says, where there is one.
    pub(super) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}"),
            (Some(file), None) => f.write_str(file),
            (None, Some(line)) => write!(f, "built-in {}:{line}", self.kind),
            (None, None) if self.kind == "default" => f.write_str("default"),
            (None, None) => write!(f, "built-in {}", self.kind),
        }
    }
}

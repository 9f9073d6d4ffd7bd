//! What `plugin add` was pointed at: a plugin's directory, or a file that leads to it.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::exit::{Exit, Failure, of_io};
use super::package;

/// Directories above a file in which its manifest is looked for: a binary may lie in `bin`.
const ANCESTORS_LIMIT: usize = 4;
/// Endings of packed packages.
const PACKED: [&str; 9] = ["zip", "tar", "tgz", "gz", "xz", "zst", "bz2", "deb", "rpm"];

/// A plugin's directory, as it was pointed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) directory: PathBuf,
    /// The file below it that was named, if one was.
    pub(super) file: Option<PathBuf>,
}

/// Why a path leads to no plugin.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("look at {path}")]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is a packed package: this version reads directories")]
    Packed { path: PathBuf },
    #[error("{path} is neither a manifest nor beside one")]
    NoManifest { path: PathBuf },
    #[error("{path} is neither the manifest ({manifest}) nor the program that it names ({entry})")]
    OtherFile {
        path: PathBuf,
        manifest: &'static str,
        entry: String,
    },
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let (exit, hint) = match &error {
            SourceError::Look { source, .. } => (of_io(Exit::NoInput, source), None),
            SourceError::Packed { .. } => (Exit::Data, Some("unpack it and give its directory")),
            SourceError::NoManifest { .. } => (
                Exit::Data,
                Some("give the directory that has the plugin's manifest"),
            ),
            SourceError::OtherFile { .. } => (Exit::Data, Some("give the directory")),
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Source {
    /// Finds the plugin's directory.
    pub(super) fn find(path: &Path) -> Result<Self, SourceError> {
        let look = |source| SourceError::Look {
            path: path.to_owned(),
            source,
        };
        let found = std::fs::canonicalize(path).map_err(look)?;
        if std::fs::metadata(&found).map_err(look)?.is_dir() {
            return Ok(Self {
                directory: found,
                file: None,
            });
        }
        let ending = found
            .extension()
            .and_then(OsStr::to_str)
            .unwrap_or_default();
        if PACKED.contains(&ending.to_ascii_lowercase().as_str()) {
            return Err(SourceError::Packed {
                path: path.to_owned(),
            });
        }
        let directory = found
            .ancestors()
            .skip(1)
            .take(ANCESTORS_LIMIT)
            .find(|directory| package::has_manifest(directory))
            .map(Path::to_owned)
            .ok_or_else(|| SourceError::NoManifest {
                path: path.to_owned(),
            })?;
        let file = found.strip_prefix(&directory).ok().map(Path::to_owned);
        Ok(Self { directory, file })
    }

    /// Refuses a file that is none of the plugin's two: it was meant otherwise.
    pub(super) fn check(&self, declared: &package::Declared) -> Result<(), SourceError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let (manifest, entry) = (declared.manifest_file, &declared.manifest.entry);
        if file == Path::new(manifest) || file == Path::new(entry) {
            return Ok(());
        }
        Err(SourceError::OtherFile {
            path: self.directory.join(file),
            manifest,
            entry: entry.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::package::Declared;

    #[test]
    fn a_directory_its_manifest_and_its_program_lead_to_the_same() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().canonicalize().unwrap().join("any-name");
        fs::create_dir_all(directory.join("bin")).unwrap();
        fs::write(
            directory.join("plugin.yaml"),
            "name: hello\nruntime: grpc\nbinary: bin/hello\n",
        )
        .unwrap();
        for name in ["bin/hello", "bin/other", "pack.ZIP"] {
            fs::write(directory.join(name), "x").unwrap();
        }
        for path in ["", "plugin.yaml", "bin/hello"] {
            let source = Source::find(&directory.join(path)).unwrap();
            assert_eq!(source.directory, directory);
            let declared = Declared::read(&source.directory, None).unwrap();
            assert_eq!(
                declared.plugin.as_str(),
                "hello",
                "by its manifest, not its directory"
            );
            source.check(&declared).unwrap();
        }
        let other = Source::find(&directory.join("bin/other")).unwrap();
        let declared = Declared::read(&other.directory, None).unwrap();
        assert!(matches!(
            other.check(&declared),
            Err(SourceError::OtherFile { .. })
        ));
        let packed = Source::find(&directory.join("pack.ZIP")).unwrap_err();
        assert!(matches!(packed, SourceError::Packed { .. }));
        assert_eq!(Failure::from(packed).exit(), Exit::Data);
        let absent = Source::find(&directory.join("absent")).unwrap_err();
        assert_eq!(Failure::from(absent).exit(), Exit::NoInput);
    }

    #[test]
    fn a_file_far_from_any_manifest_is_refused() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("hello"), "x").unwrap();
        let error = Source::find(&base.path().join("hello")).unwrap_err();
        assert!(matches!(error, SourceError::NoManifest { .. }));
    }
}

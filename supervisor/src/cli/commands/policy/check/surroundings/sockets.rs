//! Sockets and pipes in a tree of the host that a plugin is shown.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Names that are looked at in one tree: some tenths of a second.
pub(super) const NAMES_LIMIT: usize = 8192;

/// What a look at a tree came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sockets {
    /// There is none.
    None,
    /// The first one.
    Found(PathBuf),
    /// There is none in what was looked at; why that is not all of it.
    Unfinished(String),
}

impl Sockets {
    /// Looks for the first one of at most `limit` names: without links, and within the tree's file system,
    /// which is what a mount shows of it.
    pub(super) fn of(tree: &Path, limit: usize) -> Self {
        let mut look = Look {
            device: 0,
            rest: vec![tree.to_owned()],
            left: limit,
            is_cut: false,
        };
        match fs::symlink_metadata(tree) {
            Ok(found) if !found.is_dir() => return Self::None,
            Ok(found) => look.device = found.dev(),
            Err(error) => return Self::Unfinished(unread(tree, &error)),
        }
        let mut unfinished = None;
        while let Some(directory) = look.rest.pop() {
            match look.at(&directory) {
                Ok(Some(found)) => return Self::Found(found),
                Ok(None) => {}
                // Gone since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => unfinished = Some(unread(&directory, &error)),
            }
            if look.is_cut {
                return Self::Unfinished(format!("it has more than {limit} names"));
            }
        }
        unfinished.map_or(Self::None, Self::Unfinished)
    }
}

struct Look {
    device: u64,
    /// Directories yet to be looked at.
    rest: Vec<PathBuf>,
    /// Names that may yet be looked at.
    left: usize,
    /// Whether there were more.
    is_cut: bool,
}

impl Look {
    /// The first one in a directory; its directories are for later.
    fn at(&mut self, directory: &Path) -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Some(left) = self.left.checked_sub(1) else {
                self.is_cut = true;
                return Ok(None);
            };
            self.left = left;
            match self.is_one(&entry) {
                Ok(true) => return Ok(Some(entry.path())),
                Ok(false) => {}
                // Gone since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn is_one(&mut self, entry: &DirEntry) -> io::Result<bool> {
        let kind = entry.file_type()?;
        if kind.is_dir() && entry.metadata()?.dev() == self.device {
            self.rest.push(entry.path());
        }
        Ok(kind.is_socket() || kind.is_fifo())
    }
}

fn unread(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_tree_is_looked_at_as_far_as_its_limit_goes_and_what_is_left_out_is_said() {
        let tree = tempfile::tempdir().unwrap();
        let deeper = tree.path().join("a/b");
        fs::create_dir_all(&deeper).unwrap();
        fs::write(deeper.join("file"), "").unwrap();
        assert_eq!(Sockets::of(tree.path(), 3), Sockets::None);
        assert!(matches!(
            Sockets::of(tree.path(), 2),
            Sockets::Unfinished(why) if why.contains("more than 2 names")
        ));
        let socket = deeper.join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(Sockets::of(tree.path(), 4), Sockets::Found(socket));
    }

    #[test]
    fn what_is_not_there_is_not_said_to_be_without_sockets() {
        let absent = Path::new("/nonexistent/tree");
        assert!(matches!(
            Sockets::of(absent, 8),
            Sockets::Unfinished(why) if why.contains("/nonexistent/tree")
        ));
        assert_eq!(Sockets::of(Path::new("/etc/hostname"), 8), Sockets::None);
    }
}

//! Where things are: the service's directories, a developer's, or those a test chooses.

use std::path::{Path, PathBuf};

/// The files and directories of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `pinfold.toml`.
    pub config: PathBuf,
    /// `launcher.toml`.
    pub launcher_config: PathBuf,
    /// The daemon's own state.
    pub state: PathBuf,
    /// Sockets.
    pub run: PathBuf,
}

impl Place {
    /// The installed service.
    #[must_use]
    pub fn service() -> Self {
        Self {
            config: "/etc/pinfold/pinfold.toml".into(),
            launcher_config: "/etc/pinfold/launcher.toml".into(),
            state: "/var/lib/pinfold".into(),
            run: "/run/pinfold".into(),
        }
    }

    /// A development installation below `base`.
    #[must_use]
    pub fn development(base: &Path) -> Self {
        Self {
            config: base.join("etc/pinfold.toml"),
            launcher_config: base.join("etc/launcher.toml"),
            state: base.join("state"),
            run: base.join("run"),
        }
    }

    /// Where this user's development installation is: `/var/lib/pinfold-dev` for root, else
    /// `pinfold-dev` in the user's state directory (XDG base directories). `None` where neither
    /// `XDG_STATE_HOME` nor `HOME` is an absolute path.
    #[must_use]
    pub fn development_base() -> Option<PathBuf> {
        if nix::unistd::geteuid().is_root() {
            return Some("/var/lib/pinfold-dev".into());
        }
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let state = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
        Some(state.join("pinfold-dev"))
    }

    /// The one that a command without directions means: the service where it is installed, else
    /// this user's development installation.
    #[must_use]
    pub fn default_place() -> Self {
        let service = Self::service();
        if service.launcher_config.exists() {
            return service;
        }
        Self::development_base().map_or(service, |base| Self::development(&base))
    }

    /// The administration socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.run.join("admin.sock")
    }

    /// A developer's token, left for `make token`.
    #[must_use]
    pub fn development_token(&self) -> PathBuf {
        self.state.join("development-token")
    }

    /// There while `pinfold restore` changes old for new: the daemon does not start.
    #[must_use]
    pub fn unfinished_restore(&self) -> PathBuf {
        self.state.join("restore-unfinished")
    }

    /// Records for the audit trail that wait to be taken into it: of the policies' owner, to be read by
    /// the daemon. Beside the launcher's configuration, which is that owner's too.
    #[must_use]
    pub fn pending_records(&self) -> PathBuf {
        self.launcher_config.with_file_name("pending-audit")
    }

    /// Pinfold's own database. No plugin's statement reaches it.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state.join("pinfold.db")
    }
}

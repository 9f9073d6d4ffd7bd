//! What the launcher stands on once it has started: its configuration, the directories it trusts,
//! its namespaces, groups, ids, and the reaper.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pinfold_policy::{
    LauncherConfig, LauncherConfigError, REQUIRE_SIGNATURES, RequireSignatures, WATCH_DIRECTORY,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};

use super::args::{Args, Entrance};
use super::clock::Clock;
use super::disk;
use super::door::Door;
use super::files::{Files, FilesError, Place};
use super::manager::{Manager, Told};
use super::networks::Networks;
use super::{host_path, log, namespace, rights};
use crate::activation::{self, ActivationError};
use crate::cgroup::{self, CgroupError, Disk, Hierarchy, Parent, ProcPaths};
use crate::jail::{self, JailError};
use crate::posture::Mode;
use crate::stage::{self, Reader, ReaderError};
use crate::sys::own;
use crate::trust::{self, TrustError, TrustedDir};
use crate::uids::{UidError, Uids};

/// Largest launcher.toml.
const CONFIG_LIMIT_BYTES: u64 = pinfold_policy::document::DOCUMENT_LIMIT_BYTES as u64;

/// Descriptors enough for the most instances.
const DESCRIPTORS: u64 = 65_536;

/// Whose lock says that a launcher uses the state directory.
const LOCK: &str = "lock";
/// What is written into it by one that ends.
const ENDING: &str = "ending";
/// How long a launcher may take to notice that its daemon is gone.
const NOTICE_LIMIT: Duration = Duration::from_secs(2);
/// Between two attempts at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The key of where templates and profiles lie.
const DATA_DIR: &str = "data-dir";

/// The one variable that templates may pass on.
const PASSED_ON: &str = "TZ";

/// What the launcher stands on.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) config: LauncherConfig,
    /// Where that was read, and what was there.
    config_file: (PathBuf, Vec<u8>),
    pub(super) mode: Mode,
    pub(super) files: Files,
    /// Plugins' lasting directories.
    pub(super) states: TrustedDir,
    /// The disk that they are on; or why its use cannot be limited.
    pub(super) disk: Result<Disk, String>,
    /// Orders and records of watched runs.
    pub(super) watches: TrustedDir,
    pub(super) reader: Reader,
    /// Where stages are attached on older kernels.
    pub(super) attach_dir: PathBuf,
    pub(super) reaper: OwnedFd,
    /// Whether the launcher's own filter is in force; or why not.
    pub(super) own_filter: Result<(), String>,
    pub(super) networks: Networks,
    pub(super) groups: Parent,
    /// None in user mode, where there is one id for all.
    pub(super) uids: Option<Uids>,
    pub(super) host_env: BTreeMap<String, String>,
    pub(super) require_signatures: RequireSignatures,
    pub(super) clock: Clock,
    /// Held as long as the launcher lives: one launcher for each state directory.
    state_lock: File,
}

/// Why the launcher cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{step}")]
    Step {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("--socket-fd {descriptor} cannot be used")]
    Socket {
        descriptor: i32,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Activation(#[from] ActivationError),
    #[error(
        "the service manager passed {count} sockets, one is needed: start it by its socket unit"
    )]
    Passed { count: usize },
    #[error("the socket that the service manager passed is not a listening one of SOCK_SEQPACKET")]
    PassedKind,
    #[error("the configuration is not trusted")]
    Untrusted(#[source] TrustError),
    #[error("{path:?}")]
    Config {
        path: PathBuf,
        #[source]
        source: LauncherConfigError,
    },
    #[error("{path:?} has dev-grants, which --no-dev-grants refuses")]
    DevGrants { path: PathBuf },
    #[error(transparent)]
    Reader(#[from] ReaderError),
    #[error("{key} is not trusted")]
    Directory {
        key: &'static str,
        #[source]
        source: TrustError,
    },
    #[error(transparent)]
    Data(Box<FilesError>),
    #[error("make {path:?}")]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another launcher uses the state directory {path:?}")]
    InUse { path: PathBuf },
    #[error("{path:?} was replaced while the launcher started")]
    Replaced { path: PathBuf },
    #[error("control groups")]
    Groups(#[from] CgroupError),
    #[error("user ids")]
    Uids(#[from] UidError),
    #[error("seal the reaper")]
    Reaper(#[source] JailError),
    #[error("give up capabilities")]
    Rights(#[source] caps::errors::CapsError),
    #[error("{path:?} has changed since the launcher started: the next one is to read it")]
    OtherConfig { path: PathBuf },
}

impl StartError {
    /// What the log says of it: with its causes, and what to do about it.
    pub(super) fn told(&self) -> String {
        let why = log::chain(self);
        let hint = match self {
            Self::Data(error) => error.hint(),
            _ => None,
        };
        match hint {
            Some(hint) => format!("{why} (hint: {hint})"),
            None => why,
        }
    }
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Step { step, source }
}

/// What is left of what whoever started us gave.
#[derive(Debug)]
pub(super) struct Given {
    /// Where the daemon comes in.
    pub(super) door: Door,
    /// The service manager, where one started us.
    pub(super) manager: Manager,
    /// The two variables that count.
    pub(super) environment: BTreeMap<String, String>,
}

/// L1: takes the socket, and closes, empties and lowers everything that came from whoever started
/// us.
pub(super) fn clean(args: &Args) -> Result<Given, StartError> {
    let door = match args.entrance {
        Entrance::Descriptor(descriptor) => connected(descriptor)?,
        Entrance::Manager => passed()?,
    };
    own::close_all_but(&[door.socket().as_raw_fd()])
        .map_err(step("close inherited descriptors"))?;
    let manager = Manager::connect(&Told::of_environment());
    let environment = [REQUIRE_SIGNATURES, PASSED_ON]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect();
    own::clear_environment();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    std::env::set_current_dir("/").map_err(step("change to /"))?;
    match own::join_new_session_keyring() {
        // A kernel without keyrings has none to leak.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {}
        joined => joined.map_err(step("join a new session keyring"))?,
    }
    jail::core_dumps::forbid().map_err(|errno| step("limit core dumps")(errno.into()))?;
    // Each instance takes some ten descriptors; a jail has a limit of its own.
    let most = getrlimit(Resource::Nofile).maximum;
    let files = Rlimit {
        current: Some(most.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS))),
        maximum: most,
    };
    setrlimit(Resource::Nofile, files)
        .map_err(|errno| step("raise the limit on descriptors")(errno.into()))?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| step("set no_new_privs")(errno.into()))?;
    Ok(Given {
        door,
        manager,
        environment,
    })
}

/// The connected socket of this number.
fn connected(descriptor: i32) -> Result<Door, StartError> {
    let failed = |source| StartError::Socket { descriptor, source };
    let socket = own::take_inherited(descriptor).map_err(failed)?;
    match rustix::net::sockopt::socket_type(&socket) {
        Ok(rustix::net::SocketType::SEQPACKET) => Ok(Door::Connected(socket)),
        Ok(_) => Err(failed(io::Error::from_raw_os_error(libc::EPROTOTYPE))),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// The listening socket of the unit.
fn passed() -> Result<Door, StartError> {
    let mut sockets = activation::sockets()?;
    let count = sockets.len();
    let (Some(one), true) = (sockets.pop(), count == 1) else {
        return Err(StartError::Passed { count });
    };
    let kind = rustix::net::sockopt::socket_type(&one.socket);
    let listens = rustix::net::sockopt::socket_acceptconn(&one.socket);
    if kind != Ok(rustix::net::SocketType::SEQPACKET) || listens != Ok(true) {
        return Err(StartError::PassedKind);
    }
    Ok(Door::Listening(one.socket))
}

impl Ground {
    /// L2, L4, L5, the capabilities of L7, and everything that is opened before them.
    pub(super) fn prepare(
        args: &Args,
        mut host_env: BTreeMap<String, String>,
    ) -> Result<Self, StartError> {
        let mode = match rustix::process::geteuid().is_root() {
            true => Mode::Root,
            false => Mode::User,
        };
        if mode == Mode::Root {
            namespace::own_mounts().map_err(step("make a mount namespace"))?;
        }
        let (config, config_bytes) = read_config(args)?;
        let reader = Reader::of(&config.daemon_user)?;
        let variable = host_env.remove(REQUIRE_SIGNATURES);
        let require_signatures = config.requires_signatures(variable.as_deref());
        make_directory(&config.state_dir)?;
        let state = open("state-dir", &config.state_dir)?;
        let mut files = places(&config, mode, &reader)?;
        if mode == Mode::Root {
            files.let_go = detach_others(&config, &files.mount_sources())?;
        }
        if mode == Mode::User {
            namespace::own_users().map_err(step("enter a user namespace"))?;
            files.enter_user_namespace();
        }
        // A process that is not dumpable does not own its own /proc files, so this comes after
        // the maps of a user namespace are written.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|errno| step("become not dumpable")(errno.into()))?;
        // Directories that are mounted into jails must lie in the mount namespace that we are in
        // now, so the one that was checked is opened again.
        let state = reopen_state(state, mode)?;
        let states = directory_of(&state, "state")?;
        let watches = directory_of(&state, WATCH_DIRECTORY)?;
        let state_lock = lock(&config.state_dir)?;
        let disk = disk::of(&states);

        let attach_dir = config.state_dir.join("attached");
        stage::prepare_attaching(&attach_dir).map_err(|source| StartError::Make {
            path: attach_dir.clone(),
            source,
        })?;

        let uids = match mode {
            Mode::Root => Some(Uids::lease(
                config.uid_range,
                &config.uid_lease_dir,
                &config.state_dir,
                Path::new("/etc/passwd"),
                Path::new("/etc/subuid"),
            )?),
            Mode::User => None,
        };
        let groups = groups(&config, mode)?;
        let reaper = jail::sealed_reaper().map_err(StartError::Reaper)?;
        jail::read_host_files();
        rights::drop_others(mode).map_err(StartError::Rights)?;
        let own_filter = rights::refuse_others();
        let networks = Networks::new(config.netns_pool);
        Ok(Self {
            config,
            config_file: (args.config.clone(), config_bytes),
            mode,
            files,
            states,
            disk,
            watches,
            reader,
            attach_dir,
            reaper,
            own_filter,
            networks,
            groups,
            uids,
            host_env,
            require_signatures,
            clock: Clock::start(),
            state_lock,
        })
    }
}

fn read_config(args: &Args) -> Result<(LauncherConfig, Vec<u8>), StartError> {
    let path = || args.config.clone();
    let (bytes, _) =
        trust::read_file(&args.config, CONFIG_LIMIT_BYTES).map_err(StartError::Untrusted)?;
    let config = LauncherConfig::parse(&bytes).map_err(|source| StartError::Config {
        path: path(),
        source,
    })?;
    if args.refuse_dev_grants && config.dev_grants.is_some() {
        return Err(StartError::DevGrants { path: path() });
    }
    Ok((config, bytes))
}

/// As root, directories are walked to for each launch; as a user, they are opened while ids can
/// still be told apart.
fn places(config: &LauncherConfig, mode: Mode, reader: &Reader) -> Result<Files, StartError> {
    let place = |key, path: &Path, also| match mode {
        Mode::Root => Ok(Place::Walked {
            path: path.to_owned(),
            also,
        }),
        Mode::User => TrustedDir::open(path, also)
            .map(Place::Held)
            .map_err(|source| not_opened(key, path, source)),
    };
    let development = config
        .dev_policy_dir
        .as_ref()
        .map(|path| place("dev-policy-dir", path, Some(reader.uid())));
    let data = config.data_dir.as_ref();
    // As root one that is made later is found.
    let keys = Some(&config.keys_dir).filter(|path| mode == Mode::Root || path.exists());
    let mut files = Files::new(
        place("policy-dir", &config.policy_dir, None)?,
        development.transpose()?,
        data.map(|path| place(DATA_DIR, path, None)).transpose()?,
        keys.map(|path| place("keys-dir", path, None)).transpose()?,
    );
    // What is mounted there later is not seen in here.
    files
        .check_data()
        .map_err(|error| StartError::Data(Box::new(error)))?;
    if mode == Mode::User {
        files.host_roots = Some(host_path::roots());
    }
    Ok(files)
}

/// Why a directory is not opened. A `data-dir` that is not there is told like one that is walked to.
fn not_opened(key: &'static str, path: &Path, source: TrustError) -> StartError {
    if key == DATA_DIR && source.is_absent() {
        let path = path.to_owned();
        return StartError::Data(Box::new(FilesError::NoData { path }));
    }
    StartError::Directory { key, source }
}

fn detach_others(config: &LauncherConfig, sources: &[PathBuf]) -> Result<Vec<PathBuf>, StartError> {
    let mut trees = vec![
        config.plugin_dir.as_path(),
        &config.policy_dir,
        &config.keys_dir,
        &config.state_dir,
        &config.uid_lease_dir,
    ];
    trees.extend(config.data_dir.as_deref());
    trees.extend(config.dev_policy_dir.as_deref());
    namespace::detach_others(&trees, sources).map_err(step("detach mounts that no launch needs"))
}

fn open(key: &'static str, path: &Path) -> Result<TrustedDir, StartError> {
    TrustedDir::open(path, None).map_err(|source| StartError::Directory { key, source })
}

/// Makes a directory of ours unless it is there; never its parents, which are not ours.
fn make_directory(path: &Path) -> Result<(), StartError> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|source| StartError::Make {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Device and inode of a directory.
fn identity(directory: &TrustedDir) -> Result<(u64, u64), StartError> {
    rustix::fs::fstat(directory)
        .map(|stat| (stat.st_dev, stat.st_ino))
        .map_err(|errno| StartError::Make {
            path: directory.path().to_owned(),
            source: errno.into(),
        })
}

/// The launcher's state directory, in the mount namespace of now.
fn reopen_state(mut state: TrustedDir, mode: Mode) -> Result<TrustedDir, StartError> {
    if mode == Mode::User {
        let before = identity(&state)?;
        state.reopen().map_err(state_untrusted)?;
        if identity(&state)? != before {
            return Err(StartError::Replaced {
                path: state.path().to_owned(),
            });
        }
        state.enter_user_namespace();
    }
    Ok(state)
}

/// A directory of ours in the state directory, made where it is not there.
fn directory_of(state: &TrustedDir, name: &str) -> Result<TrustedDir, StartError> {
    make_directory(&state.path().join(name))?;
    state.directory(name).map_err(state_untrusted)
}

fn state_untrusted(source: TrustError) -> StartError {
    StartError::Directory {
        key: "state-dir",
        source,
    }
}

/// Takes the lock on the state directory. A launcher that has lost its daemon, or was told to end,
/// still holds it while it ends its jails: for as long as that may take it is waited for, and one that
/// has not noticed yet for a moment.
fn lock(state_dir: &Path) -> Result<File, StartError> {
    let path = state_dir.join(LOCK);
    let failed = |source| StartError::Make {
        path: path.clone(),
        source,
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut says = Vec::new();
        file.rewind().map_err(failed)?;
        (&file)
            .take(ENDING.len() as u64)
            .read_to_end(&mut says)
            .map_err(failed)?;
        let limit = if says == ENDING.as_bytes() {
            super::serve::END_LIMIT + NOTICE_LIMIT
        } else {
            NOTICE_LIMIT
        };
        if start.elapsed() >= limit {
            return Err(StartError::InUse {
                path: state_dir.to_owned(),
            });
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok(file)
}

/// L5: sweeps what launchers left behind that nobody holds, then makes this one's groups. As root
/// all launchers of a machine keep their locks beside the leases of user ids.
fn groups(config: &LauncherConfig, mode: Mode) -> Result<Parent, StartError> {
    let locks = match mode {
        Mode::Root => config.uid_lease_dir.join("groups"),
        Mode::User => config.state_dir.join("groups"),
    };
    make_directory(&locks)?;
    let hierarchy = Hierarchy::discover(&ProcPaths::own())?;
    for swept in cgroup::sweep(&hierarchy, &locks)?.swept {
        match &swept.outcome {
            Ok(()) => log::line(&format!("swept the group {:?}", swept.path)),
            Err(error) => log::line(&format!(
                "the group {:?} of a launcher that is gone stays: {}",
                swept.path,
                log::chain(error)
            )),
        }
    }
    Ok(Parent::create(&hierarchy, &locks)?)
}

impl Ground {
    /// Whether a launcher that is started now would have this configuration.
    pub(super) fn is_configured_as_read(&self) -> Result<(), StartError> {
        let (path, bytes) = &self.config_file;
        let (now, _) = trust::read_file(path, CONFIG_LIMIT_BYTES).map_err(StartError::Untrusted)?;
        match now == *bytes {
            true => Ok(()),
            false => Err(StartError::OtherConfig { path: path.clone() }),
        }
    }

    /// Says to a launcher that wants the state directory next that this one is about to leave it.
    pub(super) fn say_ending(&self) {
        // Without it the next one gives up sooner, and says why.
        let _written = (&self.state_lock).write_all(ENDING.as_bytes());
    }

    /// The directory that lasts of one plugin, made and given to `uid` where it is new.
    pub(super) fn state_of(&self, plugin: &str, uid: Option<u32>) -> io::Result<OwnedFd> {
        use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, chownat, fstat, mkdirat, openat2};
        use rustix::io::Errno;
        let owner = uid.map(rustix::fs::Uid::from_raw);
        let group = uid.map(rustix::fs::Gid::from_raw);
        let states = self.states.as_fd();
        match mkdirat(states, plugin, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let directory = openat2(states, plugin, flags, Mode::empty(), resolve)?;
        let expected = uid.unwrap_or(0);
        let mut found = fstat(&directory)?.st_uid;
        if found == 0 && expected != 0 {
            // New, or made by a launcher that ended between making and giving. Nobody else can
            // write where it lies.
            chownat(states, plugin, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
            found = fstat(&directory)?.st_uid;
        }
        if found != expected {
            return Err(io::Error::other(format!(
                "{:?} belongs to uid {found}, the plugin is uid {expected}",
                self.states.path().join(plugin)
            )));
        }
        Ok(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_dir_that_is_not_there_is_told_with_what_to_do() {
        let path = Path::new("/etc/nothing");
        let absent = || TrustError::Open {
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        };
        let hint = "hint: mount it or make it, with dialects or profiles in it; or take data-dir \
                    out of launcher.toml";
        let walked_to = StartError::Data(Box::new(FilesError::NoData { path: path.into() }));
        for error in [walked_to, not_opened(DATA_DIR, path, absent())] {
            assert_eq!(
                error.told(),
                format!("data-dir {path:?} of launcher.toml is not there ({hint})")
            );
        }
        let told = not_opened("policy-dir", path, absent()).told();
        let expected = format!("policy-dir is not trusted: open {path:?}: ");
        assert!(told.starts_with(&expected), "{told}");
    }
}

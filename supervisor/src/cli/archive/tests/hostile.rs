//! Whatever a plugin keeps: the backup is made, and comes back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use pinfold_policy::Digest;
use proptest::prelude::*;
use rustix::fs::{Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};

use super::super::budget::Share;
use super::super::content::Hashing;
use super::super::manifest::{Incomplete, Manifest};
use super::super::tree::{Met, See, Why, Within, walk};
use super::super::{WRITTEN_PATH_LIMIT_BYTES, read, write};
use super::Here;
use crate::cli::archive::areas;
use crate::cli::archive::error::ArchiveError;

const LASTING: &str = "launcher/state";

impl Here {
    async fn back_up(&self) -> Manifest {
        let written = write::write(&self.place, &self.config, &self.backup()).await;
        written.unwrap().manifest
    }

    /// Where all plugins have this together.
    async fn back_up_within(&self, share: Share) -> Manifest {
        let written = write::write_shares(&self.place, &self.config, &self.backup(), share).await;
        written.unwrap().manifest
    }

    fn lasting(&self) -> PathBuf {
        self.base.path().join(LASTING)
    }
}

/// What is below a directory: of a file its content, of a link its text.
fn tree(top: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![top.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let content = if kind.is_dir() {
                directories.push(path.clone());
                None
            } else if kind.is_symlink() {
                Some(fs::read_link(&path).unwrap().into_os_string().into_vec())
            } else {
                Some(fs::read(&path).unwrap())
            };
            found.insert(path.strip_prefix(top).unwrap().to_owned(), content);
        }
    }
    found
}

fn whys(incomplete: &[Incomplete]) -> Vec<(&str, &str)> {
    let each = incomplete.iter();
    each.map(|one| (one.path.as_str(), one.why.as_str()))
        .collect()
}

/// Makes directories in one another, with a file `f` in each, as somebody does who changes into each.
fn dig(top: &Path, name: &str, depth: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut here = rustix::fs::open(top, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o700)).unwrap();
        here = rustix::fs::openat(&here, name, flags, Mode::empty()).unwrap();
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let file = rustix::fs::openat(&here, "f", flags, Mode::from_raw_mode(0o600)).unwrap();
        rustix::io::write(&file, b"x").unwrap();
    }
}

#[tokio::test]
async fn a_path_of_any_length_leaves_a_backup_that_comes_back() {
    // One byte more with each round: somewhere there is the longest that is taken, and the kernel's.
    for more in 0..8 {
        let here = Here::empty();
        here.write(format!("{LASTING}/other/kept"), "kept", 0o600);
        let plugin = here.lasting().join(format!("p{}", "x".repeat(more)));
        fs::create_dir(&plugin).unwrap();
        dig(&plugin, &"d".repeat(200), 24);
        let manifest = here.back_up().await;
        let long = whys(&manifest.incomplete);
        assert!(!long.is_empty() && long.iter().all(|one| one.1.contains("longer than")));
        let longest = manifest.entries.iter().map(|one| one.path.len()).max();
        let longest = longest.unwrap();
        assert!((WRITTEN_PATH_LIMIT_BYTES - 210..=WRITTEN_PATH_LIMIT_BYTES).contains(&longest));
        let unpacked = here.unpack().unwrap();
        let restored = tree(unpacked.at("state").unwrap());
        assert_eq!(restored[Path::new("other/kept")], Some(b"kept".to_vec()));
        let entries = manifest.entries.iter();
        let lasting = entries.filter(|one| one.path.starts_with("state/")).count();
        assert_eq!(restored.len(), lasting);
    }
}

#[tokio::test]
async fn what_one_plugin_does_is_listed_and_keeps_no_other_from_being_backed_up() {
    let here = Here::empty();
    here.write(format!("{LASTING}/other/kept"), "kept", 0o600);
    here.write(format!("{LASTING}/deep/kept"), "kept too", 0o600);
    dig(&here.lasting().join("deep"), "d", 70);
    here.write(format!("{LASTING}/sparse/kept"), "kept as well", 0o600);
    let sparse = here.write(format!("{LASTING}/sparse/large"), "", 0o600);
    let sparse = fs::OpenOptions::new().write(true).open(sparse).unwrap();
    sparse.set_len(4 << 40).unwrap();
    let manifest = here.back_up().await;
    let whys = whys(&manifest.incomplete);
    assert_eq!(whys.len(), 2, "{whys:?}");
    assert!(whys[0].0.starts_with("state/deep/d/d/"), "{whys:?}");
    assert!(whys[0].1.contains("more than 64 directories"), "{whys:?}");
    assert_eq!(whys[1].0, "state/sparse/large");
    assert!(whys[1].1.contains("holes"), "{whys:?}");
    assert!(here.backup().metadata().unwrap().len() < 1 << 20);
    let unpacked = here.unpack().unwrap();
    let restored = tree(unpacked.at("state").unwrap());
    for path in ["other/kept", "deep/kept", "sparse/kept"] {
        assert!(restored.contains_key(Path::new(path)), "{path}");
    }
}

#[tokio::test]
async fn each_plugin_has_its_share_of_a_backup_and_no_more() {
    let here = Here::empty();
    for name in ["a", "b", "c"] {
        here.write(format!("{LASTING}/{name}/0"), "x", 0o600);
    }
    for number in 1..40 {
        here.write(format!("{LASTING}/b/{number}"), "x", 0o600);
    }
    // The first leaves 28, the second has half of them, and leaves none.
    let share = Share::small(30, 1 << 20, 1 << 20);
    let manifest = here.back_up_within(share).await;
    let told = whys(&manifest.incomplete);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, "state/b");
    assert!(told[0].1.contains("share of a backup's entries, 14"));
    let of = |name: &str| {
        let entries = manifest.entries.iter();
        let begin = format!("state/{name}/");
        entries.filter(|one| one.path.starts_with(&begin)).count()
    };
    assert_eq!((of("a"), of("b"), of("c")), (1, 13, 1));
    here.unpack().unwrap();

    fs::remove_file(here.backup()).unwrap();
    let share = Share::small(3000, 3 * 8192, 1 << 20);
    let manifest = here.back_up_within(share).await;
    let told = whys(&manifest.incomplete);
    assert!(told.len() == 1 && told[0].1.contains("names"), "{told:?}");

    // The same bytes under ever other names take no place but here: four times what takes place may come to it,
    // or what every plugin may have.
    let first = here.write(format!("{LASTING}/c/first"), &"y".repeat(1 << 20), 0o600);
    for number in 0..8 {
        let name = format!("{LASTING}/c/more{number}");
        fs::hard_link(&first, here.base.path().join(name)).unwrap();
    }
    for (unbacked, left_out) in [(1 << 20, 4), (5 << 20, 3)] {
        fs::remove_file(here.backup()).unwrap();
        let share = Share::small(3000, 3 << 20, unbacked);
        let manifest = here.back_up_within(share).await;
        let told = whys(&manifest.incomplete);
        assert_eq!(told.len(), left_out, "{told:?}");
        assert!(told.iter().all(|one| one.1.contains("further names")));
    }
}

#[test]
fn what_cannot_be_read_of_a_plugins_file_is_zeros_and_said() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("x");
    fs::write(&path, "abc").unwrap();
    let read = |from: File, is_padded| {
        let mut hashing = Hashing {
            from,
            left: 8,
            hash: Sha256::new(),
            is_padded,
            fault: None,
        };
        let mut bytes = Vec::new();
        let done = hashing.read_to_end(&mut bytes);
        (done.is_ok(), bytes, hashing.fault, hashing.hash.finalize())
    };
    let (is_done, bytes, fault, digest) = read(File::open(&path).unwrap(), true);
    assert!(is_done && matches!(fault, Some(Why::Short)));
    assert_eq!(bytes, b"abc\0\0\0\0\0");
    assert_eq!(digest, Sha256::digest(&bytes));
    let unreadable = || fs::OpenOptions::new().append(true).open(&path).unwrap();
    let (is_done, bytes, fault, _) = read(unreadable(), true);
    assert!(is_done && matches!(fault, Some(Why::Damaged(_))));
    assert_eq!(bytes, [0; 8]);
    // Of anything else it ends the backup.
    let (is_done, _, fault, _) = read(File::open(&path).unwrap(), false);
    assert!(!is_done && matches!(fault, Some(Why::Short)));
}

/// Changes what it has not been shown yet.
struct Changing<'a> {
    top: &'a Path,
    seen: Vec<PathBuf>,
}

impl See for Changing<'_> {
    fn met(&mut self, below: &Path, _: Met, _: &Stat) -> Result<Within, ArchiveError> {
        if below == Path::new("a") {
            fs::remove_dir_all(self.top.join("b")).unwrap();
            fs::remove_dir(self.top.join("c")).unwrap();
            symlink("/etc", self.top.join("c")).unwrap();
        }
        self.seen.push(below.to_owned());
        Ok(Within::Wanted)
    }

    fn passed(&mut self, below: &Path, why: Why) -> Result<(), ArchiveError> {
        panic!("{}: {why}", below.display());
    }
}

#[test]
fn a_directory_that_goes_away_is_gone_and_a_link_in_its_place_leads_nowhere() {
    let base = tempfile::tempdir().unwrap();
    for name in ["a", "b/x", "c", "d"] {
        fs::create_dir_all(base.path().join(name)).unwrap();
    }
    let mut see = Changing {
        top: base.path(),
        seen: Vec::new(),
    };
    walk(base.path(), 6, &mut see).unwrap();
    let seen: Vec<_> = see.seen.iter().map(PathBuf::as_path).collect();
    assert_eq!(seen, ["", "a", "c", "d"].map(Path::new));
}

#[tokio::test]
async fn what_is_read_back_is_refused_where_it_is_not_what_was_written() {
    let here = Here::empty();
    here.write(format!("{LASTING}/a/x"), "content", 0o600);
    let manifest = here.back_up().await;
    let areas = areas::all(&here.place, &here.config, &BTreeMap::new()).unwrap();
    let mut text = Vec::new();
    let mut archive = tar::Archive::new(File::open(here.backup()).unwrap());
    // The last one is the manifest.
    for entry in archive.entries().unwrap() {
        text.clear();
        entry.unwrap().read_to_end(&mut text).unwrap();
    }
    // Whose text is the same is the same.
    assert_eq!(serde_json::from_slice::<Manifest>(&text).unwrap(), manifest);
    let digest = Digest(Sha256::digest(&text).into());
    let check = |manifest: &Manifest, digest| read::check(&here.backup(), &areas, manifest, digest);
    check(&manifest, digest).unwrap();
    check(&manifest, Digest([0; 32])).unwrap_err();
    let mut other = manifest.clone();
    other.entries.pop();
    check(&other, digest).unwrap_err();
    assert!(!here.lasting().with_file_name(".state.restoring").exists());
    let good = fs::read(here.backup()).unwrap();
    let at = good.windows(7).position(|it| it == b"content").unwrap();
    let mut bad = good.clone();
    bad[at] ^= 1;
    for bytes in [&bad[..], &good[..good.len() / 2]] {
        fs::write(here.backup(), bytes).unwrap();
        check(&manifest, digest).unwrap_err();
    }
}

/// A file name of any bytes.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => prop::sample::select(b"ab.%\"\\ \n\xff\xc3\xa4".to_vec()),
        1 => (1u8..).prop_filter("no slash", |byte| *byte != b'/'),
    ]
    .boxed();
    let length = prop_oneof![4 => 1..4_usize, 1 => 90..110_usize, 1 => 255..256_usize];
    let name = length.prop_flat_map(move |length| prop::collection::vec(byte.clone(), length));
    name.prop_filter("no dots alone", |name| name != b"." && name != b"..")
}

/// What a link says: anything but a zero byte.
fn target() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            b"a//b".to_vec(),
            b"./a/.".to_vec(),
            b"a/".to_vec(),
            b"/".to_vec(),
            b"../../..//etc/shadow".to_vec(),
            vec![b'x'; 99],
            vec![b'x'; 100],
            vec![b'x'; 101],
            b"/y".repeat(2047),
        ]),
        prop::collection::vec(1u8.., 1..120),
    ]
}

#[derive(Clone, Debug)]
enum Kept {
    Directory,
    File(Vec<u8>),
    Link(Vec<u8>),
}

fn kept() -> impl Strategy<Value = Kept> {
    prop_oneof![
        Just(Kept::Directory),
        prop::collection::vec(any::<u8>(), 0..700).prop_map(Kept::File),
        target().prop_map(Kept::Link),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_the_writer_takes_the_reader_takes(
        entries in prop::collection::vec((prop::collection::vec(name(), 1..5), kept(), 0..0o1000_u32), 0..12),
    ) {
        let here = Here::empty();
        let plugin = here.lasting().join("hello");
        fs::create_dir_all(&plugin).unwrap();
        let at = |names: &[Vec<u8>]| {
            let mut path = plugin.clone();
            path.extend(names.iter().map(|name| OsStr::from_bytes(name)));
            path
        };
        // Every directory first, and links last: nothing is made through one.
        for (names, ..) in &entries {
            fs::create_dir_all(at(names).parent().unwrap()).unwrap();
        }
        for is_link in [false, true] {
            for (names, kept, mode) in &entries {
                let path = at(names);
                // What has the name already keeps it.
                let _made = match kept {
                    Kept::Link(text) if is_link => symlink(OsStr::from_bytes(text), &path),
                    Kept::Directory if !is_link => fs::create_dir(&path),
                    Kept::File(bytes) if !is_link => fs::write(&path, bytes).and_then(|()| {
                        // So that others than root can run this.
                        let mode = fs::Permissions::from_mode(mode | 0o600);
                        fs::set_permissions(&path, mode)
                    }),
                    _ => Ok(()),
                };
            }
        }
        let before = tree(&here.lasting());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let manifest = runtime.block_on(here.back_up());
        prop_assert!(manifest.incomplete.is_empty(), "{:?}", manifest.incomplete);
        let unpacked = here.unpack().unwrap();
        prop_assert_eq!(tree(unpacked.at("state").unwrap()), before);
    }
}

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn sample() -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("assets/empty")).unwrap();
    for (name, content, mode) in [
        ("hello", "#!/bin/sh\n", 0o755),
        ("plugin.yaml", "name: hello\nruntime: grpc\n", 0o640),
        ("hello.sig", "signature", 0o644),
        ("assets/a", "", 0o600),
    ] {
        let path = base.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    base
}

/// The digests of the contents are those that sha256sum(1) prints.
#[test]
fn the_digest_is_the_policys_over_the_same_files() {
    let base = sample();
    let file = |path: &str, size, executable, hex: &str| {
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        StagedFile {
            path: path.into(),
            size,
            executable,
            sha256: digest.0,
        }
    };
    let expected = StageManifest::new(vec![
        file(
            "plugin.yaml",
            26,
            false,
            "fd7f5b4784c6d8fcca04797680cf04e577aeb72ee055340509c2d0b679891308",
        ),
        file(
            "assets/a",
            0,
            false,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        file(
            "hello",
            10,
            true,
            "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf",
        ),
    ]);
    let package = Package::read(base.path()).unwrap();
    assert_eq!(package.files, expected);
    assert_eq!(package.digest(), expected.digest());
    assert_eq!(package.bytes, 26 + 10 + 9);
}

#[test]
fn the_copy_that_is_installed_has_the_same_digest() {
    let base = sample();
    let plugins = tempfile::tempdir().unwrap();
    let plugin: PluginId = "hello".parse().unwrap();
    crate::install::replace(base.path(), plugins.path(), &plugin, None).unwrap();
    assert_eq!(
        Package::read(&plugins.path().join("hello")).unwrap(),
        Package::read(base.path()).unwrap()
    );
}

#[test]
fn what_the_launcher_would_not_stage_is_refused_by_name() {
    let base = sample();
    let link = base.path().join("assets/link");
    std::os::unix::fs::symlink("a", &link).unwrap();
    let error = Package::read(base.path()).unwrap_err();
    assert!(
        matches!(&error, PackageError::Kind { path } if *path == link),
        "{error:?}"
    );
    assert_eq!(Failure::from(error).exit(), Exit::Data);
    fs::remove_file(&link).unwrap();
    nix::unistd::mkfifo(&link, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(
        Package::read(base.path()),
        Err(PackageError::Kind { .. })
    ));
    fs::remove_file(&link).unwrap();
    let deep = ["d"; DEPTH_LIMIT].join("/");
    fs::create_dir_all(base.path().join(deep)).unwrap();
    assert!(matches!(
        Package::read(base.path()),
        Err(PackageError::Depth { .. })
    ));
    let absent = Package::read(&base.path().join("absent")).unwrap_err();
    assert_eq!(Failure::from(absent).exit(), Exit::NoInput);
}

#[test]
fn a_package_over_the_limit_is_refused_before_it_is_read() {
    let base = sample();
    let large = File::create(base.path().join("large")).unwrap();
    large.set_len(PACKAGE_LIMIT_BYTES + 1).unwrap();
    assert!(matches!(
        Package::read(base.path()),
        Err(PackageError::Bytes { .. })
    ));
}

#[test]
fn a_manifest_is_read_by_its_own_name_or_refused_under_another() {
    let base = sample();
    let declared = Declared::read(base.path(), None).unwrap();
    assert_eq!(
        (declared.plugin.as_str(), declared.dialect),
        ("hello", "goatflow")
    );
    let other = "other".parse().unwrap();
    let error = Declared::read(base.path(), Some(&other)).err().unwrap();
    let text = Failure::from(error).to_string();
    assert!(
        text.ends_with(r#"name is "hello", the plugin's directory is "other""#),
        "{text}"
    );
    fs::remove_file(base.path().join("plugin.yaml")).unwrap();
    let error = Declared::read(base.path(), None).err().unwrap();
    assert!(
        error.to_string().ends_with("has no manifest (plugin.yaml)"),
        "{error}"
    );
}

use super::*;

async fn open(url: String, create: bool, forbidden: &Path) -> Result<(), OpenFailure> {
    let config = DatabaseConfig {
        create,
        ..DatabaseConfig::new(url)
    };
    let configured = BTreeMap::from([("main".to_owned(), config)]);
    Databases::open(&configured, forbidden)
        .await
        .map(drop)
        .map_err(|error| error.cause)
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

#[tokio::test]
async fn pinfolds_own_database_is_refused_under_every_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let own = at("pinfold.db");
    std::fs::write(&own, "").unwrap();
    std::fs::create_dir(at("sub")).unwrap();
    std::os::unix::fs::symlink(&own, at("link.db")).unwrap();
    std::fs::hard_link(&own, at("hard.db")).unwrap();
    std::fs::write(at("pinfold.db-wal"), "").unwrap();
    std::fs::write(at("fine.db"), "").unwrap();
    for name in [
        "pinfold.db",
        "./pinfold.db",
        "sub/../pinfold.db",
        "link.db",
        "hard.db",
        "pinfold.db-wal",
    ] {
        let outcome = open(url(&at(name)), true, &own).await;
        assert!(
            matches!(outcome, Err(OpenFailure::Own { .. })),
            "{name}: {outcome:?}"
        );
        let outcome = open(url(&at(name)), true, &at("link.db")).await;
        assert!(
            matches!(outcome, Err(OpenFailure::Own { .. })),
            "{name}: {outcome:?}"
        );
    }
    open(url(&at("fine.db")), false, &own).await.unwrap();
    // Not there yet, and not to be made by us.
    let later = at("later.db");
    for name in ["later.db", "sub/../later.db", "later.db-journal"] {
        let outcome = open(url(&at(name)), true, &later).await;
        assert!(
            matches!(outcome, Err(OpenFailure::Own { .. })),
            "{name}: {outcome:?}"
        );
    }
    std::os::unix::fs::symlink(&later, at("ahead.db")).unwrap();
    let outcome = open(url(&at("ahead.db")), true, &later).await;
    assert!(
        matches!(outcome, Err(OpenFailure::Missing { .. })),
        "{outcome:?}"
    );
    assert!(!later.exists());
}

#[tokio::test]
async fn a_missing_file_is_made_only_where_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (path, own) = (dir.path().join("new.db"), dir.path().join("own.db"));
    let outcome = open(url(&path), false, &own).await;
    assert!(
        matches!(outcome, Err(OpenFailure::Missing { .. })),
        "{outcome:?}"
    );
    assert!(!path.exists());
    open(url(&path), true, &own).await.unwrap();
    assert!(path.exists());
    open(url(&path), false, &own).await.unwrap();
    let outcome = open(url(&dir.path().join("none/new.db")), true, &own).await;
    assert!(
        matches!(outcome, Err(OpenFailure::Path { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn urls_of_other_engines_and_with_parameters_are_refused() {
    let own = Path::new("/nonexistent/own.db");
    for (given, shown) in [
        ("postgres://me:secret@db/app?sslkey=x", "postgres://db/app"),
        ("mysql://db/app", "mysql://db/app"),
        ("sqlite://relative.db", "sqlite://relative.db"),
        ("sqlite::memory:", "sqlite::memory:"),
        ("sqlite:///", "sqlite:///"),
        ("/plain/path.db", "/plain/path.db"),
    ] {
        let outcome = open(given.into(), true, own).await;
        assert!(
            matches!(&outcome, Err(OpenFailure::Engine { url }) if url == shown),
            "{outcome:?}"
        );
    }
    for given in [
        "sqlite:///a.db?mode=memory",
        "sqlite:///a.db#x",
        "sqlite:///a%2fb.db",
    ] {
        let outcome = open(given.into(), true, own).await;
        assert!(
            matches!(outcome, Err(OpenFailure::Parameters { .. })),
            "{outcome:?}"
        );
    }
    let outcome = open("sqlite:///dev/null".into(), true, own).await;
    assert!(
        matches!(outcome, Err(OpenFailure::NotAFile { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.db");
    std::fs::write(
        &path,
        "not a database, but long enough to be looked at".repeat(100),
    )
    .unwrap();
    let outcome = open(url(&path), false, &dir.path().join("own.db")).await;
    assert!(
        matches!(outcome, Err(OpenFailure::Connect { .. })),
        "{outcome:?}"
    );
}

#[test]
fn a_configuration_reads_with_its_defaults() {
    let config: DatabaseConfig = serde_json::from_str(r#"{ "url": "sqlite:///a.db" }"#).unwrap();
    assert_eq!(config, DatabaseConfig::new("sqlite:///a.db"));
    assert!(serde_json::from_str::<DatabaseConfig>(r#"{ "url": "x", "path": "y" }"#).is_err());
}

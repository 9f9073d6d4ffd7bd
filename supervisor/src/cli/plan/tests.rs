use super::*;

const DIGEST: &str = "sha256:0a7064867b5e5f8f8e6a6f9e3d7a5a1a76b23c4b4bd12ad3f4fd9d1d6c6f1a40";

const REVIEWED: &str = r#"
schema = 1
dialect = "goatflow"
entry = "old"
args = ["-v"]
profile = "strict"
[trust]
unsigned = true
[permissions]
cache = "read"
db = [{ database = "main", tables = ["orders"], access = "read" }]
[limits]
memory = "96MiB"
[timeouts]
call = "9s"
[rates]
calls-per-second = 7
[controls]
memory = { wanted = "preferred", i-accept-the-risk = "a laptop" }
[env]
SECRET = "x"
"#;

fn manifest() -> Manifest {
    Manifest {
        version: "1.2.0".into(),
        description: "Greets".into(),
        author: "Ann".into(),
        license: "MIT".into(),
        entry: "hello".into(),
        asked: toml::from_str(
            "cache = 'readwrite'\ndb = [{ tables = ['items'], access = 'read' }]",
        )
        .unwrap(),
        wished_memory: Some(pinfold_policy::ByteSize::mebibytes(64)),
        ..Manifest::default()
    }
}

fn pinned() -> Trust {
    Trust {
        digest: Some(DIGEST.parse().unwrap()),
        ..Trust::default()
    }
}

fn unsigned() -> Trust {
    Trust {
        unsigned: true,
        ..Trust::default()
    }
}

fn plan(existing: Option<&Existing>, trust: Trust) -> Plan {
    plan_with(existing, trust, None)
}

fn plan_with(existing: Option<&Existing>, trust: Trust, profile: Option<&str>) -> Plan {
    let declared = Declared {
        plugin: "hello".parse().unwrap(),
        dialect: "goatflow",
        manifest_file: "plugin.yaml",
        manifest: manifest(),
    };
    let package = Package {
        files: pinfold_policy::StageManifest::default(),
        bytes: 20_000,
        ..Package::default()
    };
    let chosen = Chosen {
        trust,
        notes: Vec::new(),
    };
    let path = "/etc/pinfold/policy.d/hello.toml".into();
    Plan::new(&declared, &package, existing, chosen, profile, path)
}

fn reviewed() -> Existing {
    Existing {
        policy: PolicyFile::parse(REVIEWED.as_bytes()).unwrap(),
        has_comments: true,
    }
}

fn assert_lines(text: &str, expected: &[&str]) {
    for line in expected {
        assert!(text.lines().any(|one| one == *line), "{line:?} in\n{text}");
    }
}

#[test]
fn a_first_grant_shows_everything_as_new() {
    let plan = plan(None, pinned());
    let text = plan.page().to_string();
    assert_lines(
        &text,
        &[
            "plugin hello 1.2.0",
            "  Greets",
            "  by Ann, MIT",
            "  0 files, 20 KiB",
            "policy /etc/pinfold/policy.d/hello.toml (new)",
            "  + cache:read",
            "  + cache:write",
            "  + db:read:main/items",
            "  + entry hello",
            "  + memory 64MiB",
            "  + call 30s",
        ],
    );
    assert!(!text.contains("  - ") && !text.contains("  = "), "{text}");
    assert!(
        text.contains(&format!("  + these files alone: {DIGEST}")),
        "{text}"
    );
    assert!(!plan.changes_nothing());
}

#[test]
fn a_later_grant_shows_what_comes_what_goes_and_what_is_lost() {
    let text = plan(Some(&reviewed()), pinned()).page().to_string();
    assert_lines(
        &text,
        &[
            "policy /etc/pinfold/policy.d/hello.toml (+ new, - taken away, = as before)",
            "  = cache:read",
            "  + cache:write",
            "  + db:read:main/items",
            "  - db:read:main/orders",
            "  + entry hello",
            "  - entry old",
            "  = syscall profile strict",
            "  = env SECRET",
            "  - whatever files lie in the plugin's directory (unsigned)",
            "  = memory 96MiB",
            "  = calls-per-second 7",
            "  = memory preferred: a laptop",
            "note:",
            "  the comments in the policy file are lost",
            "  permissions become what the manifest asks for: edits of them by hand are lost",
            "  memory: the manifest wishes for 64MiB, the policy's 96MiB stays",
            "  memory is preferred: the plugin starts even where that limit is not to be had",
        ],
    );
}

#[test]
fn a_grant_keeps_what_a_reviewer_set_beside_the_permissions() {
    let before = reviewed().policy;
    let after = proposed(Some(&before), "goatflow", &manifest(), pinned());
    assert_eq!(after.permissions, manifest().asked);
    assert_eq!((after.entry.as_str(), &after.trust), ("hello", &pinned()));
    let kept = PolicyFile {
        entry: before.entry.clone(),
        trust: before.trust.clone(),
        permissions: before.permissions.clone(),
        ..after.clone()
    };
    assert_eq!(kept, before);
    assert_eq!(PolicyFile::parse(after.to_toml().as_bytes()), Ok(after));
}

#[test]
fn granting_the_same_again_changes_nothing() {
    let existing = Existing {
        policy: plan(None, unsigned()).policy().clone(),
        has_comments: true,
    };
    let again = plan(Some(&existing), unsigned());
    assert!(again.changes_nothing());
    assert_eq!(again.policy(), &existing.policy);
    assert!(!plan(Some(&existing), pinned()).changes_nothing());
}

#[test]
fn permissions_that_nothing_serves_and_open_trust_are_noted() {
    let mut declared = manifest();
    declared.asked = toml::from_str("email = ['a@example.com']").unwrap();
    let policy = proposed(None, "goatflow", &declared, unsigned());
    let notes = notes::of(&declared, None, &policy);
    assert!(notes.contains(&"email: granted in the policy, not served by this version".into()));
    assert!(
        notes.iter().any(|note| note.starts_with("unsigned: ")),
        "{notes:?}"
    );
}

#[test]
fn a_profile_is_kept_unless_another_is_named() {
    let named = plan_with(None, unsigned(), Some("go"));
    assert_eq!(named.policy().profile, "go");
    let existing = Existing {
        policy: named.policy().clone(),
        has_comments: false,
    };
    assert_eq!(plan(Some(&existing), unsigned()).policy().profile, "go");
    let other = plan_with(Some(&existing), unsigned(), Some("static"));
    assert_eq!(other.policy().profile, "static");
    assert!(!other.changes_nothing());
    assert_eq!(plan(None, unsigned()).policy().profile, "default");
}

//! Plugins under the syscall profile of their runtime.

use serde_json::json;

use super::setup::Setup;

/// What the subjects' own registrations ask for.
const POLICY: &str = "
[trust]
unsigned = true
[permissions]
db = [{ tables = ['items'], access = 'readwrite' }]
cache = 'readwrite'
config = ['app.*']
";

#[test]
fn plugins_in_go_of_every_generation_serve_and_call_their_host_under_the_profile_go() {
    if !super::can_run_as_root() {
        return;
    }
    let names = ["g1", "g2", "g3", "g4"];
    let daemon = names
        .into_iter()
        .fold(Setup::new(), |setup, name| {
            let head = format!(
                "schema = 1\ndialect = \"goatflow\"\nentry = \"{name}\"\nprofile = \"go\"\n"
            );
            setup.plugin(name, &format!("goatflow-{name}")).file(
                &format!("etc/policy.d/{name}.toml"),
                &format!("{head}{POLICY}"),
            )
        })
        .start();
    for name in names {
        daemon.ready(name);
        let path = format!("/api/plugins/{name}/public");
        assert_eq!(daemon.http().get(&path).send().status, 200, "{name}");
        let sent = json!({"n": [1, null, "ü"]});
        assert_eq!(daemon.result(name, "echo", &sent), sent, "{name}");
        // The first two generations have no host to call.
        if !matches!(name, "g1" | "g2") {
            let set = json!({"key": "k", "value": "b3du", "ttl": 60});
            let answer = daemon.host(name, "cache_set", &set);
            assert_eq!(answer["error"], "", "{name}: {answer}");
        }
    }
}

#[test]
fn a_profile_that_is_not_there_blocks_the_plugin_and_the_nearest_is_named() {
    if !super::can_run_as_root() {
        return;
    }
    let policy = "schema = 1\ndialect = \"goatflow\"\nentry = \"p\"\nprofile = \"statik\"\n\
                  [trust]\nunsigned = true\n";
    let daemon = Setup::new()
        .plugin("p", "goatflow-v1")
        .file("etc/policy.d/p.toml", policy)
        .start();
    let blocked = daemon.in_state("p", "blocked");
    let said = blocked.to_string();
    assert!(said.contains("`statik` is shipped (`static`?)"), "{said}");
}

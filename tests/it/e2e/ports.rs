//! Plugins that listen at a TCP port of their jail's own loopback.

use serde_json::json;

use super::setup::Setup;

#[test]
fn a_plugin_that_serves_at_a_tcp_port_serves_like_any_other() {
    if !super::can_run() {
        return;
    }
    let grants = "[permissions]\ndb = [{ tables = ['items'], access = 'read' }]\n";
    let daemon = Setup::new()
        .plugin("tcp", "goatflow-tcp-served")
        .policy("tcp", grants)
        .plugin("unix", "goatflow-g4")
        .policy("unix", grants)
        .start();
    for name in ["tcp", "unix"] {
        let said = json!({"n": [1, null, "\u{fc}"]});
        assert_eq!(daemon.result(name, "echo", &said), said);
        // And calls back on the same connection.
        let rows = daemon.result(name, "rows", &json!({}));
        assert_eq!(rows.as_array().unwrap().len(), 3);
    }
    // More than one frame in either direction.
    let long = json!({"text": "x".repeat(1 << 20)});
    assert_eq!(daemon.result("tcp", "echo", &long), long);
    // Its end is told, and it comes back.
    let before = daemon.plugin_pid("tcp");
    daemon.call("tcp", "exit", &json!({"code": 3}));
    daemon.in_state("tcp", "backing-off");
    daemon.in_state("tcp", "ready");
    assert_ne!(daemon.plugin_pid("tcp"), before);
    assert_eq!(daemon.result("tcp", "echo", &json!({})), json!({}));
}

//! What a test needs of the machine. A test that cannot run says so by name; where the run
//! promises the ability (`PINFOLD_TEST_REQUIRE`, names with commas), that is a failure.

/// Whether the test may go on.
pub(crate) fn has(test: &str, ability: &str, is_there: bool, why_not: &str) -> bool {
    if is_there {
        return true;
    }
    let promised = std::env::var("PINFOLD_TEST_REQUIRE").unwrap_or_default();
    assert!(
        !promised.split(',').any(|name| name == ability),
        "{test} needs {ability}, which was promised: {why_not}"
    );
    println!("skipped: {test} needs {ability}: {why_not}");
    false
}

/// Root, outside any user namespace of a user.
pub(crate) fn root(test: &str) -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_root =
        rustix::process::geteuid().is_root() && map.split_whitespace().last() != Some("1");
    has(test, "root", is_root, "this is an ordinary user")
}

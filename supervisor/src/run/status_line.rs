//! What `systemctl status` shows of the daemon.

use std::net::SocketAddr;

/// Where it serves, how many plugins are still to come to their first start, and what came of the last
/// reload.
pub(super) fn status_line(
    address: SocketAddr,
    still_starting: usize,
    reloaded: Option<&str>,
) -> String {
    let mut line = format!("serves on http://{address}");
    if still_starting > 0 {
        line.push_str(&format!("; plugins still starting: {still_starting}"));
    }
    if let Some(outcome) = reloaded {
        line.push_str("; ");
        line.push_str(outcome);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_and_plugins_that_still_start_are_both_told() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        for (still_starting, reloaded, expected) in [
            (0, None, ""),
            (2, None, "; plugins still starting: 2"),
            (
                0,
                Some("configuration reloaded"),
                "; configuration reloaded",
            ),
            (
                1,
                Some("waits for a restart: listen"),
                "; plugins still starting: 1; waits for a restart: listen",
            ),
        ] {
            assert_eq!(
                status_line(address, still_starting, reloaded),
                format!("serves on http://127.0.0.1:8080{expected}")
            );
        }
    }
}

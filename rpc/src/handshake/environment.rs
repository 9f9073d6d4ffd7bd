//! The variables that make a program a plugin of ours.
use std::fmt::Display;

/// TCP ports that a plugin without Unix sockets may listen on, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest port.
    pub min: u16,
    /// Highest port.
    pub max: u16,
}

impl Default for PortRange {
    /// What go-plugin's own host gives: 10000 to 25000.
    fn default() -> Self {
        Self {
            min: 10_000,
            max: 25_000,
        }
    }
}

/// The variables to set for a plugin, in go-plugin's order: cookie, `PLUGIN_MIN_PORT`, `PLUGIN_MAX_PORT`,
/// `PLUGIN_PROTOCOL_VERSIONS`.
///
/// The environment should otherwise hold no name that starts with `PLUGIN_`: a leftover `PLUGIN_CLIENT_CERT`, say,
/// makes the plugin demand TLS.
pub fn environment(
    cookie_key: &str,
    cookie_value: &str,
    versions: &[i64],
    ports: PortRange,
) -> Vec<(String, String)> {
    let variable = |name: &str, value: &dyn Display| (name.to_owned(), value.to_string());
    let versions: Vec<String> = versions.iter().map(i64::to_string).collect();
    vec![
        variable(cookie_key, &cookie_value),
        variable("PLUGIN_MIN_PORT", &ports.min),
        variable("PLUGIN_MAX_PORT", &ports.max),
        variable("PLUGIN_PROTOCOL_VERSIONS", &versions.join(",")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_launch_has_cookie_ports_and_versions() {
        let variables = environment("COOKIE", "chip", &[1, 3], PortRange::default());
        let expected = [
            ("COOKIE", "chip"),
            ("PLUGIN_MIN_PORT", "10000"),
            ("PLUGIN_MAX_PORT", "25000"),
            ("PLUGIN_PROTOCOL_VERSIONS", "1,3"),
        ];
        assert_eq!(
            variables,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}

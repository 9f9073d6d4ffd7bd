//! What `make run` shows when everything stands: where it answers, what to try next, and what is
//! not in force.

use pinfold_gateway::admin::Control as _;

use crate::control::Administration;
use crate::place::Place;

/// Prints the banner on standard output.
#[expect(
    clippy::print_stdout,
    reason = "a developer reads this; logs go to standard error"
)]
pub(crate) fn print(administration: &Administration, place: &Place) {
    let status = administration.status();
    let mut text = String::from("\n");
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!(
        "Pinfold {} serves on {}",
        status.version,
        status.listeners.join(", ")
    ));
    for plugin in administration.plugins() {
        let reason = plugin
            .reason
            .map_or_else(String::new, |reason| format!(": {reason}"));
        line(format!(
            "  plugin {} {} is {}{reason}",
            plugin.id, plugin.version, plugin.state
        ));
    }
    line(String::new());
    for warning in &status.warnings {
        line(format!("  {warning}"));
    }
    line("  pinfold posture lists everything that is in force and that is not".into());
    line(String::new());
    line("Try next, in another terminal:".into());
    line("  TOKEN=$(make -s token)".into());
    for url in administration
        .plugins()
        .iter()
        .filter_map(|plugin| administration.plugin(&plugin.id))
        .flat_map(|detail| detail.urls)
        .filter_map(|url| url.strip_prefix("GET ").map(str::to_owned))
        // One with a parameter is no address yet.
        .filter(|url| !url.contains('{'))
        .take(3)
    {
        line(format!("  curl -H \"Authorization: Bearer $TOKEN\" {url}"));
    }
    line("  target/debug/pinfold --dev plugin list".into());
    line("  target/debug/pinfold --dev plugin add DIRECTORY   (with its plugin.yaml)".into());
    line(format!(
        "Everything is below {}",
        place.state.parent().unwrap_or(&place.state).display()
    ));
    println!("{text}");
}

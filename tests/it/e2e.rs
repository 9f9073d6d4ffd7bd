//! The daemon, its launcher and Go plugins, as built: what a client, an operator and a plugin see.
//!
//! Each test has a daemon of its own on a development installation in a directory of its own, in
//! which policies of the operator say what is granted. They run as root or as an ordinary user, but
//! for those about what only root can give.

#[path = "../attacks/battery.rs"]
mod attacks;
mod audit;
mod authority;
mod bad_endings;
mod bad_input;
mod chaos;
mod command_line;
mod daemon;
mod flags;
mod gateways;
mod generations;
mod handover;
mod host_calls;
mod hostile;
mod http;
mod http_requests;
mod jail;
mod learn;
mod life;
mod limits;
mod load;
mod maintenance;
mod metrics;
mod misbehaviour;
mod operations;
mod ordinary_user;
mod over;
mod packages;
mod plugin_calls;
mod policies;
mod ports;
mod process;
mod profiles;
mod reload;
mod replies;
mod restart;
mod routes;
mod setup;
mod soak;
mod trust;
mod way_out;

/// Whether the daemon can run here, with plugins in Go: as root, which it gives up by itself, or as
/// an ordinary user.
fn can_run() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    pinfold_tests::require(if is_root {
        &["root", "go"]
    } else {
        &["userns", "go"]
    })
}

/// The same for what only root can give a plugin or show of it.
fn can_run_as_root() -> bool {
    pinfold_tests::require(&["root", "go"])
}

//! The daemon, its launcher and Go plugins, as built: what a client, an operator and a plugin see.
//!
//! Each test has a daemon of its own on a development installation in a directory of its own, in
//! which policies of the operator say what is granted. All but those as an ordinary user need root.

mod authority;
mod bad_input;
mod daemon;
mod generations;
mod http;
mod jail;
mod life;
mod limits;
mod misbehaviour;
mod ordinary_user;
mod process;
mod routes;

/// Whether an ordinary end-to-end test can run here: pinfoldd gives up root by itself, and its
/// subjects are Go programs.
fn can_run() -> bool {
    pinfold_tests::require(&["root", "go"])
}

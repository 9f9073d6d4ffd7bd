//! `pinfold policy`: what a security reviewer reads.

pub(super) mod check;
mod diff;
mod explain;
mod learn;
mod origin;
mod show;

use pinfold_policy::POLICY_SCHEMA;

use crate::cli::Context;
use crate::cli::args::PolicyCommand;
use crate::cli::exit::{Exit, Failure};

/// Runs one of them. Those whose status is an answer end with 2 where there is none.
pub(super) async fn run(context: &Context, command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check(arguments) => answer(check::run(context, &arguments)),
        PolicyCommand::Show { plugin } => show::run(context, &plugin),
        PolicyCommand::Diff { old, new } => answer(diff::run(context, &old, new.as_deref())),
        PolicyCommand::Explain { plugin, permission } => {
            answer(explain::run(context, &plugin, &permission))
        }
        PolicyCommand::Learn(arguments) => learn::run(context, arguments).await,
        PolicyCommand::Schema => Ok(context.output.bytes(POLICY_SCHEMA.as_bytes())?),
    }
}

/// 0: yes. 1: no, which the result has said. 2: there is no answer.
fn answer(result: Result<bool, Failure>) -> Result<(), Failure> {
    match result {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::said(Exit::Failed)),
        Err(failure) => Err(failure.with_exit(Exit::Usage)),
    }
}

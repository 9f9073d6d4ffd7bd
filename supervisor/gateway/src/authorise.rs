//! Step 4: whether the caller may. The only place that says so.

use crate::audit::Actor;
use crate::refusal::Refusal;
use crate::route::Needs;

/// Role of a user that may read metrics and needs no more for it.
pub(crate) const METRICS_ROLE: &str = "metrics";

/// Checks what a target needs against who asks.
pub(crate) fn authorise(needs: Needs, actor: &Actor) -> Result<(), Refusal> {
    match (needs, actor) {
        (Needs::Nothing, _) | (Needs::User, Actor::User(_)) => Ok(()),
        (Needs::Admin | Needs::Metrics, Actor::User(user)) if user.is_admin() => Ok(()),
        (Needs::Metrics, Actor::User(user)) if user.roles.iter().any(|r| r == METRICS_ROLE) => {
            Ok(())
        }
        (Needs::Admin | Needs::Metrics, Actor::User(_)) => Err(Refusal::AdminRequired),
        // Processes come by the admin socket, which has no routes of plugins.
        (Needs::User | Needs::Admin | Needs::Metrics, Actor::Anonymous | Actor::Process { .. }) => {
            Err(Refusal::LoginRequired)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pinfold_policy::User;

    use super::*;

    #[test]
    fn each_need_is_met_by_the_right_caller_alone() {
        let user = |roles: &[&str]| {
            Actor::User(Arc::new(User {
                id: "u".into(),
                login: "u".into(),
                roles: roles.iter().map(|&role| role.to_owned()).collect(),
            }))
        };
        let callers = [
            Actor::Anonymous,
            user(&[]),
            user(&["Admin"]),
            user(&["x", "admin"]),
            user(&["metrics"]),
        ];
        let code = |needs| {
            callers
                .each_ref()
                .map(|actor| authorise(needs, actor).err().map(|no| no.code()))
        };
        let (login, admin) = (
            Some("gateway.login_required"),
            Some("gateway.admin_required"),
        );
        assert_eq!(code(Needs::Nothing), [None; 5]);
        assert_eq!(code(Needs::User), [login, None, None, None, None]);
        assert_eq!(code(Needs::Admin), [login, admin, admin, None, admin]);
        assert_eq!(code(Needs::Metrics), [login, admin, admin, None, None]);
    }
}

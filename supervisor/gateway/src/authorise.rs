//! Step 4: whether the caller may. The only place that says so.

use http::HeaderMap;

use crate::audit::Actor;
use crate::refusal::Refusal;
use crate::route::Needs;

/// Role of a user that may read metrics and needs no more for it.
pub(crate) const METRICS_ROLE: &str = "metrics";
/// Where a browser says from where a request comes.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

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

/// Refuses what a browser says that a page of another site has it ask for (W3C, Fetch Metadata Request Headers),
/// with whatever a proxy in front adds to the browser's requests. A page that is shown in a sandbox counts as
/// another site's. What is no browser says nothing, or (a `fetch` outside of one) nothing of a site.
pub(crate) fn not_across_sites(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    match sites.all(|site| site == "same-origin" || site == "none") {
        true => Ok(()),
        false => Err(Refusal::CrossSite),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;
    use pinfold_policy::User;

    use super::*;

    #[test]
    fn what_a_page_of_another_site_asks_for_is_refused() {
        for (sites, is_refused) in [
            (&[][..], false),
            (&["none"], false),
            (&["same-origin"], false),
            (&["same-site"], true),
            (&["cross-site"], true),
            (&["unheard-of"], true),
            (&["none", "cross-site"], true),
        ] {
            let mut headers = HeaderMap::new();
            for &site in sites {
                headers.append(SEC_FETCH_SITE, HeaderValue::from_static(site));
            }
            assert_eq!(not_across_sites(&headers).is_err(), is_refused, "{sites:?}");
        }
    }

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

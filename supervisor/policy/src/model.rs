//! The common model: what every dialect is turned into, and what the gateway is written against.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// HTTP method of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RouteMethod {
    /// GET; also answers HEAD.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

impl RouteMethod {
    /// The method's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Reads an upper-case method name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete]
            .into_iter()
            .find(|method| method.as_str() == text)
    }
}

/// What must hold of a caller before a route's handler is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Middleware {
    /// A known user.
    Auth,
    /// A known user who is an administrator.
    Admin,
}

/// A route that a plugin brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Method.
    pub method: RouteMethod,
    /// Absolute path; `{name}` is one segment, `{*rest}` all that follow.
    pub path: String,
    /// The plugin's function that serves it.
    pub handler: String,
    /// What must hold of the caller; empty is a public route.
    pub middleware: Vec<Middleware>,
    /// One line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// What a plugin brings. The parts that are served today: routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Routes, in the order of registration.
    pub routes: Vec<Route>,
    /// What was declared and is not mounted, each with the reason, for the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// A caller whom the gateway knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Stable id.
    pub id: String,
    /// Name for logs and people.
    pub login: String,
    /// Roles; `admin` is the administrator's.
    pub roles: Vec<String>,
}

impl User {
    /// The role of administrators.
    pub const ADMIN: &'static str = "admin";

    /// Whether this is an administrator.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role == Self::ADMIN)
    }
}

/// On whose behalf, and until when, a plugin is called.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// Id of the request, from the gateway.
    pub request_id: Arc<str>,
    /// The acting user, where there is one.
    pub user: Option<Arc<User>>,
    /// Language of the answer, a BCP 47 tag.
    pub language: Option<String>,
    /// When the answer is of no more use.
    pub deadline: Instant,
    /// Calls from plugin to plugin that led here.
    pub depth: u32,
}

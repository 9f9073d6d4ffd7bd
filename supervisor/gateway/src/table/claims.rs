//! The requests that elder plugins have by a parameter: a newcomer's more literal route, which the
//! matcher prefers, takes none of them.
//!
//! Of two routes that both match a path, the one goes first that is more literal in the first
//! segment in which they differ in kind. So the routes that have parameters are kept as a tree of
//! segments, and a newcomer's is walked down it: along what is like it so far, then, past a segment
//! in which it is the more literal, along all that matches a path which it matches too.

use std::collections::BTreeMap;
use std::sync::Arc;

use pinfold_policy::{PluginId, Route};

use super::{ConflictCause, Entry};
use crate::path::Pattern;

/// Where names of all plugins begin, as below `/api/v1/` and other versions. A route whose first parameter
/// stands here has no name of its own, and claims nothing: a site's fallback would keep every later plugin from
/// being mounted.
const COMMON: [&str; 3] = ["/", "/api/", NAMES];

/// Where a plugin's name is its own, whoever else declares routes below it.
const NAMES: &str = "/api/plugins/";

/// Most places of the tree that are looked at for one route. Few need more than they have segments: one
/// that has a literal where elders have a parameter, and then a parameter where they have a thousand
/// literals.
const LOOK_LIMIT: usize = 1024;

/// Most for all routes of a plugin, and more for each of them: so no routes make building a table
/// quadratic.
const PLUGIN_LOOKS: usize = 4 * LOOK_LIMIT;
const LOOKS_PER_ROUTE: usize = 64;

/// `{name}` and `{*name}` in [`Pattern::shape`].
const ONE: &str = "{}";
const REST: &str = "{*}";

/// A route with a parameter, and whose it is.
pub(super) struct Claim {
    pub(super) entry: Arc<Entry>,
    pub(super) route: Arc<Route>,
}

/// What elders claim of one method.
#[derive(Default)]
pub(super) struct Claims {
    root: Node,
}

impl Claims {
    /// Whether a route of a plugin claims what it matches.
    pub(super) fn are_made_by(plugin: &PluginId, pattern: &Pattern) -> bool {
        let Some((before, _)) = pattern.places.first() else {
            return false;
        };
        if COMMON.contains(&before.as_str()) || is_version(before) {
            return false;
        }
        let below = before.strip_prefix(NAMES);
        let named = below.and_then(|below| below.split('/').next());
        named.is_none_or(|name| name == plugin.as_str())
    }

    /// Adds a mounted route, by its shape.
    pub(super) fn insert(&mut self, shape: &str, claim: Claim) {
        let mut node = &mut self.root;
        for segment in segments(shape) {
            node = match segment {
                REST => {
                    node.rest = Some(claim);
                    return;
                }
                ONE => node.one.get_or_insert_with(Box::default).as_mut(),
                literal => node.literals.entry(literal.to_owned()).or_default(),
            };
        }
        node.end = Some(claim);
    }

    /// How many places may be looked at for all of a plugin's routes.
    pub(super) fn looks_for(routes: usize) -> usize {
        routes
            .saturating_mul(LOOKS_PER_ROUTE)
            .saturating_add(PLUGIN_LOOKS)
    }

    /// Whether a newcomer's route of this shape leaves the elders their requests; `left` is how many places may be
    /// looked at for its plugin.
    pub(super) fn check(&self, shape: &str, left: &mut usize) -> Result<(), ConflictCause> {
        let segments: Vec<_> = segments(shape).collect();
        let most = LOOK_LIMIT.min(*left);
        let mut looks = most;
        let claim = self.root.behind(&segments, &mut looks);
        *left -= most - looks;
        match claim {
            Some(Claim { entry, route }) => Err(ConflictCause::Under {
                by: entry.plugin.clone(),
                path: route.path.clone(),
            }),
            None if looks == 0 => Err(ConflictCause::Unclear),
            None => Ok(()),
        }
    }
}

/// What may follow some segments. Ordered, so that of several routes the same is always named.
#[derive(Default)]
struct Node {
    literals: BTreeMap<String, Node>,
    one: Option<Box<Node>>,
    rest: Option<Claim>,
    end: Option<Claim>,
}

impl Node {
    /// A claim that a route of these segments goes before, and shares a path with; of several the
    /// most literal. So far they are alike; to the end they are not, for then it is the same route.
    fn behind(&self, segments: &[&str], looks: &mut usize) -> Option<&Claim> {
        let (segment, others) = segments.split_first()?;
        *looks = looks.checked_sub(1)?;
        let one = self.one.as_deref();
        let claim = match *segment {
            REST => return None,
            ONE => one.and_then(|one| one.behind(others, looks)),
            literal => {
                let same = self.literals.get(literal);
                // A parameter is never empty.
                let one = one.filter(|_| !literal.is_empty());
                same.and_then(|same| same.behind(others, looks))
                    .or_else(|| one.and_then(|one| one.beside(others, looks)))
            }
        };
        claim.or(self.rest.as_ref())
    }

    /// A claim that shares a path with a route of these segments, whichever goes first from here.
    fn beside(&self, segments: &[&str], looks: &mut usize) -> Option<&Claim> {
        *looks = looks.checked_sub(1)?;
        let Some((segment, others)) = segments.split_first() else {
            return self.end.as_ref();
        };
        let one = self.one.as_deref();
        let claim = match *segment {
            REST => return self.below(),
            ONE => {
                let named = self.literals.iter().filter(|(text, _)| !text.is_empty());
                let mut claim = None;
                for node in named.map(|(_, node)| node).chain(one) {
                    claim = node.beside(others, looks);
                    if claim.is_some() || *looks == 0 {
                        break;
                    }
                }
                claim
            }
            literal => {
                let same = self.literals.get(literal);
                let one = one.filter(|_| !literal.is_empty());
                same.and_then(|same| same.beside(others, looks))
                    .or_else(|| one.and_then(|one| one.beside(others, looks)))
            }
        };
        claim.or(self.rest.as_ref())
    }

    /// Some claim that has a segment more.
    fn below(&self) -> Option<&Claim> {
        let node = self.literals.values().next().or(self.one.as_deref());
        node.and_then(|node| node.end.as_ref().or_else(|| node.below()))
            .or(self.rest.as_ref())
    }
}

/// `/api/v1/`, and so on.
fn is_version(path: &str) -> bool {
    let number = path
        .strip_prefix("/api/v")
        .and_then(|rest| rest.strip_suffix('/'));
    number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
}

fn segments(shape: &str) -> impl Iterator<Item = &str> {
    shape.split('/').skip(1)
}

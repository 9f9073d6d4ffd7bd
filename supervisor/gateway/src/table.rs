//! What is served now: which plugin answers which method and path. Built as a whole, swapped by
//! one atomic store, read by one atomic load.

mod claims;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Method;
use pinfold_policy::{CallContext, Generation, PluginId, Route, RouteMethod};

use crate::limit::Meter;
use crate::path::{Pattern, PatternError, RequestPath, Rest, decode_parameter};
use crate::plugin::{CallError, Instance};

use claims::{Claim, Claims};

/// The table that the gateway reads and the supervisor swaps.
pub type Shared = Arc<ArcSwap<Table>>;

/// Where Pinfold's own API is.
pub(crate) const PINFOLD_PREFIX: &str = "/api/pinfold";

/// Paths below which no plugin is mounted: Pinfold's own, and those that stand for the host.
pub const RESERVED_PREFIXES: &[&str] = &[
    PINFOLD_PREFIX,
    "/api/v1/plugins",
    "/healthz",
    "/readyz",
    "/metrics",
    "/.well-known",
];

/// Most routes that are mounted of one plugin.
pub const ROUTES_PER_PLUGIN_LIMIT: usize = 1000;

const METHODS: [RouteMethod; 5] = [
    RouteMethod::Get,
    RouteMethod::Post,
    RouteMethod::Put,
    RouteMethod::Patch,
    RouteMethod::Delete,
];

/// One plugin that serves: its current generation.
pub struct Entry {
    /// Its id.
    pub plugin: PluginId,
    /// Its version.
    pub version: String,
    /// Generation of the instance.
    pub generation: Generation,
    /// Routes it brings.
    pub routes: Vec<Arc<Route>>,
    /// The instance that answers.
    pub instance: Arc<dyn Instance>,
    /// Longest time for one call.
    pub call_timeout: Duration,
    /// Most calls a second through the gateway; `None` is no limit.
    pub calls_per_second: Option<u32>,
    /// What the plugin uses and has used, the same for all its generations.
    pub meter: Arc<Meter>,
}

impl Entry {
    /// Calls one function of the plugin, beside its routes: in a place among its requests under
    /// way, within its call time-out, and counted. Its rate does not apply. Arguments and result
    /// are JSON text.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::Overloaded`] where there is no place.
    pub async fn call(
        &self,
        function: &str,
        arguments: Bytes,
        mut context: CallContext,
    ) -> Result<Bytes, CallError> {
        let place = self.meter.place()?;
        context.deadline = context.deadline.min(Instant::now() + self.call_timeout);
        let call = place.call();
        let result = self.instance.call(function, arguments, context).await;
        call.ended(&result);
        result
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("plugin", &self.plugin)
            .field("version", &self.version)
            .field("generation", &self.generation)
            .field("routes", &self.routes.len())
            .finish_non_exhaustive()
    }
}

/// A route that is not mounted, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route {} {path} of plugin {:?} is not mounted: {cause}", method.as_str(), plugin.as_str())]
pub struct RouteConflict {
    /// The plugin whose route it is.
    pub plugin: PluginId,
    /// The route's method.
    pub method: RouteMethod,
    /// The route's path as declared, cut after 512 characters.
    pub path: String,
    /// Why.
    pub cause: ConflictCause,
}

/// Why a route is not mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConflictCause {
    /// The path breaks the rules.
    #[error("{0}")]
    Pattern(PatternError),
    /// It is Pinfold's own.
    #[error("{prefix} is reserved")]
    Reserved {
        /// The reserved prefix.
        prefix: &'static str,
    },
    /// Another route, perhaps of the same plugin, has method and path already.
    #[error("{path} of plugin {:?} is there already", by.as_str())]
    Taken {
        /// Whose route it is.
        by: PluginId,
        /// Its path.
        path: String,
    },
    /// It is more literal than a route of an elder plugin, and would be given requests of that one.
    #[error("it takes requests of {path} of plugin {:?}", by.as_str())]
    Under {
        /// Whose route that is.
        by: PluginId,
        /// Its path.
        path: String,
    },
    /// So many routes of elder plugins are like it that it is not found out whether it takes
    /// requests of theirs.
    #[error("too many routes that are there cross it")]
    Unclear,
    /// `{name}` here and `{*name}` in another route stand in the same place.
    #[error("{{name}} and {{*name}} stand in the same place as {with}")]
    Ambiguous {
        /// The other path.
        with: String,
    },
    /// Over [`ROUTES_PER_PLUGIN_LIMIT`]: this route and those after it. Reported once.
    #[error("the plugin has more than {ROUTES_PER_PLUGIN_LIMIT} routes")]
    TooMany,
}

/// What is served now.
#[derive(Default)]
pub struct Table {
    entries: HashMap<PluginId, Arc<Entry>>,
    routers: [matchit::Router<Slot>; METHODS.len()],
}

struct Slot {
    entry: Arc<Entry>,
    route: Arc<Route>,
    /// For the bare prefix of `{*name}`: the parameter that is then empty.
    empty_rest: Option<String>,
}

/// Answer of a look-up.
pub(crate) enum Found {
    Route(Matched),
    /// The path is there under these methods only.
    OtherMethods(Vec<RouteMethod>),
    Nothing,
}

/// A route that matches a request.
pub(crate) struct Matched {
    pub(crate) entry: Arc<Entry>,
    pub(crate) route: Arc<Route>,
    pub(crate) parameters: Vec<(String, String)>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl Table {
    /// Builds the table of these entries, one for each plugin; of several the first counts.
    ///
    /// Where two routes want the same method and path, the one of the earlier entry is mounted;
    /// the caller gives entries in an order that lasts, so that a newcomer takes nothing from
    /// those that are there. Nor is a route mounted that would be given requests of an earlier
    /// entry's route with a parameter, for being more literal, unless that has no name of its own
    /// (`/{*path}`). What is not mounted is reported.
    ///
    /// A path of literals beats one with a parameter, which beats one with a rest, segment by
    /// segment from the left. `{*name}` also matches nothing: `/f/{*path}` serves `/f/`, unless
    /// another route does. A path whose route would leave a `{name}` empty is not found. `/` is a
    /// path like any other.
    ///
    /// Each plugin's meter gets the rate that its entry says.
    #[must_use]
    pub fn build(entries: Vec<Arc<Entry>>) -> (Self, Vec<RouteConflict>) {
        let mut builder = Builder::default();
        for entry in entries {
            builder.add(entry);
        }
        builder.finish()
    }

    /// The entry of a plugin.
    #[must_use]
    pub fn entry(&self, plugin: &PluginId) -> Option<&Arc<Entry>> {
        self.entries.get(plugin)
    }

    /// Every entry, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// The route that a request goes to: the gateway's own look-up, without the rest of its way.
    /// `path` is as in the request line, without the query. `None` where no plugin answers method
    /// and path.
    #[must_use]
    pub fn route_for(&self, method: &Method, path: &str) -> Option<Arc<Route>> {
        let path = RequestPath::read(path).ok()?;
        match self.find(method, &path) {
            Found::Route(matched) => Some(matched.route),
            Found::OtherMethods(_) | Found::Nothing => None,
        }
    }

    /// Which route a request is for.
    pub(crate) fn find(&self, method: &Method, path: &RequestPath<'_>) -> Found {
        let wanted = if method == Method::HEAD {
            Some(RouteMethod::Get)
        } else {
            RouteMethod::parse(method.as_str())
        };
        if let Some(matched) = wanted.and_then(|wanted| self.at(wanted, path)) {
            return Found::Route(matched);
        }
        let others: Vec<_> = METHODS
            .into_iter()
            .filter(|other| self.has(*other, path))
            .collect();
        if others.is_empty() {
            Found::Nothing
        } else {
            Found::OtherMethods(others)
        }
    }

    fn at(&self, method: RouteMethod, path: &RequestPath<'_>) -> Option<Matched> {
        let found = self.routers[index(method)].at(&path.canonical).ok()?;
        let Slot {
            entry,
            route,
            empty_rest,
        } = found.value;
        // The matcher lets an empty segment be a parameter's value; no route means that.
        if found.params.iter().any(|(_, value)| value.is_empty()) {
            return None;
        }
        let mut parameters: Vec<_> = found
            .params
            .iter()
            .map(|(name, value)| (name.to_owned(), decode_parameter(value)))
            .collect();
        parameters.extend(empty_rest.iter().map(|name| (name.clone(), String::new())));
        Some(Matched {
            entry: Arc::clone(entry),
            route: Arc::clone(route),
            parameters,
        })
    }

    fn has(&self, method: RouteMethod, path: &RequestPath<'_>) -> bool {
        self.at(method, path).is_some()
    }
}

/// A table on its way. It finds every clash itself and hands the matcher only what fits.
#[derive(Default)]
struct Builder {
    table: Table,
    conflicts: Vec<RouteConflict>,
    /// Method and shape of each mounted route, with its owner and path.
    taken: HashMap<(RouteMethod, String), (PluginId, String)>,
    /// Method and shape before each parameter, with whether it is a rest, and the route's path.
    places: HashMap<(RouteMethod, String), (bool, String)>,
    rests: Vec<(Rest, Arc<Entry>, Arc<Route>)>,
    /// What the entries before this one claim, by method.
    claims: [Claims; METHODS.len()],
}

impl Builder {
    fn add(&mut self, entry: Arc<Entry>) {
        if self.table.entries.contains_key(&entry.plugin) {
            return;
        }
        let mut claimed = Vec::new();
        let mut looks = Claims::looks_for(entry.routes.len().min(ROUTES_PER_PLUGIN_LIMIT));
        for route in entry.routes.iter().take(ROUTES_PER_PLUGIN_LIMIT) {
            match self.mount(&entry, route, &mut looks) {
                Ok(shape) => claimed.extend(shape.map(|shape| (shape, Arc::clone(route)))),
                Err(cause) => self.report(&entry.plugin, route, cause),
            }
        }
        // Only now: among a plugin's own routes the more literal goes first.
        for (shape, route) in claimed {
            let entry = Arc::clone(&entry);
            self.claims[index(route.method)].insert(&shape, Claim { entry, route });
        }
        if let Some(route) = entry.routes.get(ROUTES_PER_PLUGIN_LIMIT) {
            self.report(&entry.plugin, route, ConflictCause::TooMany);
        }
        entry.meter.set_rate(entry.calls_per_second);
        self.table.entries.insert(entry.plugin.clone(), entry);
    }

    /// The route's shape, where it claims what it matches; `looks` is what is left for its plugin of looks at claims.
    fn mount(
        &mut self,
        entry: &Arc<Entry>,
        route: &Arc<Route>,
        looks: &mut usize,
    ) -> Result<Option<String>, ConflictCause> {
        let pattern = Pattern::parse(&route.path).map_err(ConflictCause::Pattern)?;
        let method = route.method;
        if let Some(prefix) = reserved_prefix(&pattern.shape) {
            return Err(ConflictCause::Reserved { prefix });
        }
        let claimed = Claims::are_made_by(&entry.plugin, &pattern).then(|| pattern.shape.clone());
        let key = (method, pattern.shape);
        if let Some((by, path)) = self.taken.get(&key) {
            return Err(ConflictCause::Taken {
                by: by.clone(),
                path: path.clone(),
            });
        }
        self.claims[index(method)].check(&key.1, looks)?;
        let places: Vec<_> = pattern
            .places
            .into_iter()
            .map(|(at, rest)| ((method, at), rest))
            .collect();
        for (place, rest) in &places {
            if let Some((other, with)) = self.places.get(place)
                && other != rest
            {
                return Err(ConflictCause::Ambiguous { with: with.clone() });
            }
        }
        let slot = Slot {
            entry: Arc::clone(entry),
            route: Arc::clone(route),
            empty_rest: None,
        };
        self.table.routers[index(method)]
            .insert(pattern.text, slot)
            .map_err(|_| ConflictCause::Ambiguous {
                with: "another route".to_owned(),
            })?;
        self.taken
            .insert(key, (entry.plugin.clone(), route.path.clone()));
        for (place, rest) in places {
            self.places
                .entry(place)
                .or_insert_with(|| (rest, route.path.clone()));
        }
        if let Some(rest) = pattern.rest {
            self.rests
                .push((rest, Arc::clone(entry), Arc::clone(route)));
        }
        Ok(claimed)
    }

    /// `{*name}` also matches nothing, where no route of its own is there.
    fn finish(mut self) -> (Table, Vec<RouteConflict>) {
        for (rest, entry, route) in self.rests {
            let method = route.method;
            if !self.taken.contains_key(&(method, rest.shape_before)) {
                let slot = Slot {
                    entry,
                    route,
                    empty_rest: Some(rest.name),
                };
                let inserted = self.table.routers[index(method)].insert(rest.before, slot);
                debug_assert!(inserted.is_ok(), "no route of this shape is there");
            }
        }
        (self.table, self.conflicts)
    }

    fn report(&mut self, plugin: &PluginId, route: &Route, cause: ConflictCause) {
        self.conflicts.push(RouteConflict {
            plugin: plugin.clone(),
            method: route.method,
            path: route.path.chars().take(512).collect(),
            cause,
        });
    }
}

/// The reserved prefix that a canonical path stands under, if any.
pub(crate) fn reserved_prefix(path: &str) -> Option<&'static str> {
    RESERVED_PREFIXES.iter().copied().find(|prefix| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

const fn index(method: RouteMethod) -> usize {
    match method {
        RouteMethod::Get => 0,
        RouteMethod::Post => 1,
        RouteMethod::Put => 2,
        RouteMethod::Patch => 3,
        RouteMethod::Delete => 4,
    }
}

#[cfg(test)]
mod tests;

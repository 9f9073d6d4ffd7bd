//! What was understood of a plugin's recent statements: one that comes again is not parsed again.
//!
//! What is kept follows from the text alone. Neither grants nor the schema are in it; both are asked
//! at each call. Each plugin has its own, so that none pushes out another's, or learns from the time
//! that a call takes what another asks.

use std::sync::{Arc, Mutex, PoisonError};

use super::sql::{self, Classified, Dialect, StatementError};
use crate::recent::{Bound, Recent};

/// Statements kept of one plugin: more than most programs have. What is kept of one takes up to some
/// thirty times its length, where it names many tables, beside a kilobyte.
const KEPT: Bound = Bound {
    count: 64,
    bytes: 32 * 1024,
    longest: 2 * 1024,
};

/// A statement that was understood.
#[derive(Debug)]
pub(super) struct Understood {
    pub(super) classified: Classified,
    /// Where it ends, in bytes: before a final semicolon and what follows it.
    pub(super) end: usize,
}

/// The statements of one plugin.
#[derive(Debug)]
pub(crate) struct KnownStatements(Mutex<Recent<Arc<Understood>>>);

impl Default for KnownStatements {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(KEPT)))
    }
}

impl KnownStatements {
    /// What `text` is. Refusals are not kept.
    pub(super) fn understand(
        &self,
        text: &str,
        dialect: Dialect,
    ) -> Result<Arc<Understood>, StatementError> {
        // One that has a second dialect must have it in the key.
        let Dialect::Sqlite = dialect;
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(understood) = known().find(text) {
            return Ok(Arc::clone(understood));
        }
        let (classified, end) = sql::understand(text, dialect)?;
        let understood = Arc::new(Understood { classified, end });
        known().keep(text, Arc::clone(&understood));
        Ok(understood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_comes_again_is_not_parsed_again() {
        let known = KnownStatements::default();
        let sql = "SELECT a FROM items WHERE b = ? ;";
        let first = known.understand(sql, Dialect::Sqlite).unwrap();
        let again = known.understand(sql, Dialect::Sqlite).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let other = known.understand("SELECT a FROM users", Dialect::Sqlite);
        assert_ne!(other.unwrap().classified, first.classified);
        assert_eq!(
            sql::understand(sql, Dialect::Sqlite).unwrap(),
            (first.classified.clone(), first.end)
        );
        for _ in 0..2 {
            assert!(known.understand("PRAGMA x", Dialect::Sqlite).is_err());
        }
    }
}

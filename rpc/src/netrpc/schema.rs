//! Schemas of the program's own types, made once.
use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use pinfold_gob::{GobType, Schema};

/// The schema of `T`. There are as many as the program has types that it sends.
pub(super) fn schema_of<T: GobType + ?Sized + 'static>() -> Schema {
    static KNOWN: LazyLock<RwLock<HashMap<TypeId, Schema>>> = LazyLock::new(RwLock::default);
    let id = TypeId::of::<T>();
    let known = KNOWN
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&id)
        .cloned();
    known.unwrap_or_else(|| {
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(id).or_insert_with(Schema::of::<T>).clone()
    })
}

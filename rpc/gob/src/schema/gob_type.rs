//! Rust types that say what they are in Go.

use std::collections::{BTreeMap, HashMap};

use super::Type;

/// A Rust type with its Go counterpart, for [`Schema::of`](crate::Schema::of).
///
/// For structs, [`gob_struct!`](crate::gob_struct) writes it.
pub trait GobType {
    /// The Go type.
    fn gob_type() -> Type;

    /// The Go type of a slice of these. Only bytes differ from the default.
    fn gob_slice() -> Type {
        Type::slice(Self::gob_type())
    }
}

macro_rules! built_in {
    ($($rust:ty => $go:ident,)*) => {
        $(impl GobType for $rust {
            fn gob_type() -> Type {
                Type::$go()
            }
        })*
    };
}

built_in! {
    bool => bool,
    i8 => int,
    i16 => int,
    i32 => int,
    i64 => int,
    isize => int,
    u16 => uint,
    u32 => uint,
    u64 => uint,
    usize => uint,
    f32 => float,
    f64 => float,
    str => string,
    String => string,
    crate::GoString => string,
    () => interface,
}

impl GobType for u8 {
    fn gob_type() -> Type {
        Type::uint()
    }

    fn gob_slice() -> Type {
        Type::bytes()
    }
}

impl<T: GobType> GobType for [T] {
    fn gob_type() -> Type {
        T::gob_slice()
    }
}

impl<T: GobType> GobType for Vec<T> {
    fn gob_type() -> Type {
        T::gob_slice()
    }
}

impl<T: GobType, const N: usize> GobType for [T; N] {
    fn gob_type() -> Type {
        Type::array(N, T::gob_type())
    }
}

impl<K: GobType, V: GobType, S> GobType for HashMap<K, V, S> {
    fn gob_type() -> Type {
        Type::map(K::gob_type(), V::gob_type())
    }
}

impl<K: GobType, V: GobType> GobType for BTreeMap<K, V> {
    fn gob_type() -> Type {
        Type::map(K::gob_type(), V::gob_type())
    }
}

impl<T: GobType> GobType for Option<T> {
    fn gob_type() -> Type {
        T::gob_type().pointer()
    }
}

impl<T: GobType + ?Sized> GobType for Box<T> {
    fn gob_type() -> Type {
        T::gob_type()
    }
}

impl<T: GobType + ?Sized> GobType for &T {
    fn gob_type() -> Type {
        T::gob_type()
    }
}

/// Says what a struct is in Go: its name without package, then the Go names and Rust types of
/// its fields, in the order of the struct.
///
/// The struct derives `serde::Serialize` with the same names. Lists and maps may be given as the
/// Rust type; `Vec<u8>` is `[]byte`.
///
/// ```
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Default)]
/// #[serde(rename_all = "PascalCase", default)]
/// struct Request {
///     service_method: String,
///     seq: u64,
/// }
///
/// pinfold_gob::gob_struct!(Request as "Request" { "ServiceMethod": String, "Seq": u64 });
/// ```
#[macro_export]
macro_rules! gob_struct {
    ($rust:ty as $go:literal { $($name:literal : $field:ty),* $(,)? }) => {
        impl $crate::GobType for $rust {
            fn gob_type() -> $crate::Type {
                let fields: [(&str, $crate::Type); { 0usize $(+ { let _ = $name; 1usize })* }] =
                    [$(($name, <$field as $crate::GobType>::gob_type())),*];
                $crate::Type::structure($go, fields)
            }
        }
    };
}

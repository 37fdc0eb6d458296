//! Whole numbers, also those written as `3.0`: for JSON, and for many a client, the two are the
//! same. It checks no bounds but the type's.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// From here on a float no longer tells neighbours apart.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Reads a `T` from any whole number.
pub(super) struct Whole<T>(pub(super) T);

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OfNumber(PhantomData)).map(Self)
    }
}

struct OfNumber<T>(PhantomData<T>);

impl<T: TryFrom<i128>> OfNumber<T> {
    fn fit<E: Error>(self, number: i128, given: Unexpected<'_>) -> Result<T, E> {
        T::try_from(number).map_err(|_| E::invalid_value(given, &self))
    }
}

impl<T: TryFrom<i128>> Visitor<'_> for OfNumber<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number within bounds")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.fit(number.into(), Unexpected::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.fit(number.into(), Unexpected::Signed(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        let given = Unexpected::Float(number);
        if number.fract() == 0.0 && number.abs() < EXACT_MAX {
            return self.fit(number as i128, given);
        }
        Err(E::invalid_type(given, &self))
    }
}

/// A number that must be there.
pub(super) fn whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Whole::deserialize(deserializer).map(|Whole(number)| number)
}

/// A number that may be null; absent by `default`.
pub(super) fn maybe<'de, D: Deserializer<'de>, T: TryFrom<i128>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Whole<T>>::deserialize(deserializer)?.map(|Whole(number)| number))
}

/// The same, with null told from absent.
pub(super) fn present<'de, D: Deserializer<'de>, T: TryFrom<i128>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    maybe(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_is_what_has_no_fraction() {
        let read = |text| serde_json::from_str::<Whole<u32>>(text).ok().map(|Whole(number)| number);
        for (text, number) in [("7", 7), ("7.0", 7), ("7e2", 700), ("4294967295", u32::MAX)] {
            assert_eq!(read(text), Some(number), "{text}");
        }
        for text in ["7.5", "-1", "-1.0", "4294967296", "1e30", "\"7\"", "null", "[7]", "true"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}

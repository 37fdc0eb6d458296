//! What users have of an item. It deliberately does not know how much they may have.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::UserId;
use crate::shared::PartedMap;

/// What a user has of an item. Apart, because units sold before a limit was set are not known here,
/// and giving those back must not hide units that are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Units {
    pub(crate) held: u64,
    // Sold or shipped, not freed or returned.
    pub(crate) owned: u64,
}

/// The units of each user who has any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Users {
    few: PartedMap<UserId, Few>,
    // Hardly ever anyone: no limit lets a user have so much, but one may be set afterwards.
    many: BTreeMap<UserId, Units>,
}

/// Units that are few enough to be kept in half the room: there are very many users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Few {
    held: u32,
    owned: u32,
}

impl Few {
    fn of(units: Units) -> Option<Self> {
        let (held, owned) = (u32::try_from(units.held).ok()?, u32::try_from(units.owned).ok()?);
        Some(Self { held, owned })
    }

    fn units(self) -> Units {
        Units { held: self.held.into(), owned: self.owned.into() }
    }
}

impl Users {
    /// What `user` has.
    pub(crate) fn units_of(&self, user: &UserId) -> Units {
        match self.many.get(user) {
            Some(units) => *units,
            None => self.few.get(user).copied().unwrap_or_default().units(),
        }
    }

    /// Changes what `user` has.
    pub(crate) fn count(&mut self, user: &UserId, change: impl FnOnce(&mut Units)) {
        let many = if self.many.is_empty() { None } else { self.many.remove(user) };
        let few = self.few.get_or_insert(user, Few::default);
        let mut units = many.unwrap_or_else(|| few.units());
        change(&mut units);
        match Few::of(units) {
            Some(changed) if units != Units::default() => *few = changed,
            kept => {
                self.few.remove(user);
                if kept.is_none() {
                    self.many.insert(user.clone(), units);
                }
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&UserId, Units)> {
        let few = self.few.iter().map(|(user, few)| (user, few.units()));
        few.chain(self.many.iter().map(|(user, units)| (user, *units)))
    }
}

/// Written like any map, in the order of the names, so that equal users have equal bytes.
impl Serialize for Users {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().collect::<BTreeMap<_, _>>())
    }
}

impl<'de> Deserialize<'de> for Users {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Users;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("units by user")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Users, A::Error> {
        let mut users = Users::default();
        while let Some((user, units)) = entries.next_entry::<UserId, Units>()? {
            users.count(&user, |kept| *kept = units);
        }
        Ok(users)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn units_are_counted_however_many(
            steps in prop::collection::vec((0..3_u8, 0..4_u8, any::<bool>()), 1..80),
        ) {
            const HALF: u64 = 1 << 31;
            let (mut users, mut model) = (Users::default(), BTreeMap::<UserId, Units>::new());
            for (name, count, held) in steps {
                let user = UserId::new(&format!("user-{name}")).unwrap();
                let change = |units: &mut Units| {
                    let units = if held { &mut units.held } else { &mut units.owned };
                    *units = u64::from(count) * HALF;
                };
                users.count(&user, change);
                change(model.entry(user.clone()).or_default());
                model.retain(|_, units| *units != Units::default());
                let expected = model.get(&user).copied().unwrap_or_default();
                prop_assert_eq!(users.units_of(&user), expected);
                prop_assert_eq!(users.iter().collect::<BTreeMap<_, _>>().len(), model.len());
                let config = bincode::config::standard();
                let bytes = bincode::serde::encode_to_vec(&users, config).unwrap();
                prop_assert_eq!(&bytes, &bincode::serde::encode_to_vec(&model, config).unwrap());
                let read = bincode::serde::decode_from_slice::<Users, _>(&bytes, config);
                prop_assert_eq!(&read.unwrap().0, &users);
            }
        }
    }
}

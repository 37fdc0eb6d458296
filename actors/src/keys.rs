//! Idempotency keys and request fingerprints, hashed before they reach a shard: a shard stores 24
//! bytes instead of what callers send. It remembers nothing; the machines do.

use serde::Serialize;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use tidegate_machines::{Fingerprint, KeyHash, OutOfBounds};

/// The longest idempotency key, in bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Hashes with the store's secret, so that nobody can make two keys that collide.
#[derive(Clone)]
pub struct Keyring {
    secret: [u8; 16],
}

impl Keyring {
    /// A keyring over the secret that the store was created with.
    #[must_use]
    pub fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    /// The hash of `key`, which is unique within `caller` and `operation`.
    ///
    /// # Errors
    /// The key is not 1 to 255 visible ASCII characters.
    pub fn key(&self, caller: &str, operation: &str, key: &str) -> Result<KeyHash, OutOfBounds> {
        let visible = key.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        if !visible || !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
            let bound = format!("1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters");
            return Err(OutOfBounds::new("idempotency key", bound, format!("{key:?}")));
        }
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        for part in [caller, operation, key] {
            hasher.write_u64(part.len() as u64);
            hasher.write(part.as_bytes());
        }
        Ok(KeyHash(hasher.finish128().as_u128()))
    }

    /// A name for the store: it follows from the secret, and does not give it away.
    #[must_use]
    pub fn store_id(&self) -> String {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write(b"the name of the store");
        format!("{:032x}", hasher.finish128().as_u128())
    }

    /// The hash of what a request asks for.
    #[must_use]
    pub fn fingerprint<T: Serialize>(&self, request: &T) -> Fingerprint {
        let mut bytes = Vec::with_capacity(128);
        if let Err(error) = crate::codec::encode(request, &mut bytes) {
            // Requests are plain data. If one could not be told apart, a reused key would go
            // unnoticed: keep what was written so far, which is as much as can be told.
            tracing::error!(%error, "a request can't be fingerprinted whole");
        }
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write(&bytes);
        Fingerprint(hasher.finish128().h1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_caller_operation_and_key() {
        let keys = Keyring::new([7; 16]);
        let hash = |caller, operation, key| keys.key(caller, operation, key).unwrap();
        assert_eq!(hash("a", "place", "1"), hash("a", "place", "1"));
        assert_ne!(hash("a", "place", "1"), hash("b", "place", "1"));
        assert_ne!(hash("a", "place", "1"), hash("a", "cancel", "1"));
        assert_ne!(hash("ab", "c", "1"), hash("a", "bc", "1"));
        assert_ne!(hash("a", "place", "1"), Keyring::new([8; 16]).key("a", "place", "1").unwrap());
    }

    #[test]
    fn stores_have_names_of_their_own() {
        let name = |secret| Keyring::new([secret; 16]).store_id();
        assert_eq!((name(7), name(7).len()), (name(7), 32));
        assert_ne!(name(7), name(8));
    }

    #[test]
    fn keys_have_bounds() {
        let keys = Keyring::new([7; 16]);
        for bad in ["", "with space", "ü", &"x".repeat(256)] {
            assert!(keys.key("", "place", bad).is_err(), "{bad:?}");
        }
        assert!(keys.key("", "place", &"x".repeat(255)).is_ok());
    }
}

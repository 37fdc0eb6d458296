//! Signatures as [Standard Webhooks](https://www.standardwebhooks.com) has them: an HMAC over a
//! message's id, its time and its body, so that a receiver knows who sent it and that it is new.
//! Whether it is too old is the receiver's to say.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::Error;

/// Begins every secret.
const PREFIX: &str = "whsec_";

/// Bytes of a secret, as the standard has them.
const BYTES_MIN: usize = 24;
const BYTES_MAX: usize = 64;

/// Bytes of a new secret.
const BYTES: usize = 32;

/// What both sides know. Never shown when it is printed for debugging.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A new one, from the system's source of randomness.
    ///
    /// # Errors
    /// [`Error::Setup`]: the system has none.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = vec![0; BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::Setup(format!("no randomness: {error}")))?;
        Ok(Self(bytes))
    }

    /// Reads `whsec_` and 24 to 64 bytes in Base64.
    ///
    /// # Errors
    /// [`Error::Setup`]; it never repeats the secret.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| BASE64.decode(text).ok());
        match bytes {
            Some(bytes) if (BYTES_MIN..=BYTES_MAX).contains(&bytes.len()) => Ok(Self(bytes)),
            _ => Err(Error::Setup(format!(
                "a secret must be {PREFIX} and then {BYTES_MIN} to {BYTES_MAX} bytes in Base64; \
                 make one with `tidegate webhook new-secret`"
            ))),
        }
    }

    /// As [`Secret::parse`] reads it: for whoever must be told.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(&self.0))
    }

    fn mac(&self, id: &str, seconds: u64, body: &[u8]) -> Hmac<Sha256> {
        // A key of any length will do.
        let mut mac = Hmac::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!());
        for part in [id.as_bytes(), b".", seconds.to_string().as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }

    /// The signature of a message sent `seconds` after 1970.
    #[must_use]
    pub fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        format!("v1,{}", BASE64.encode(self.mac(id, seconds, body).finalize().into_bytes()))
    }

    /// Whether one of `signatures`, parted by spaces, is that of the message. Takes as long for a
    /// wrong one as for the right one.
    #[must_use]
    pub fn verifies(&self, id: &str, seconds: u64, body: &[u8], signatures: &str) -> bool {
        signatures.split(' ').any(|signature| {
            let given = signature.strip_prefix("v1,").and_then(|text| BASE64.decode(text).ok());
            given.is_some_and(|given| self.mac(id, seconds, body).verify_slice(&given).is_ok())
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_standard_says() {
        // From the standard's own test vectors.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let verifies = |signatures: &str| {
            secret.verifies("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body, signatures)
        };
        assert!(verifies(&signature));
        assert!(verifies(&format!("v1a,AAAA v1,AAAA {signature}")));
        assert!(!verifies("") && !verifies("v1,") && !verifies(&signature[3..]));
        assert!(!secret.verifies("another", 1_614_265_330, body, &signature));
        assert!(!secret.verifies("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_331, body, &signature));
    }

    #[test]
    fn a_secret_is_read_back_and_never_printed() {
        let secret = Secret::random().unwrap();
        let again = Secret::parse(&secret.reveal()).unwrap();
        assert_eq!(again.0, secret.0);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        for wrong in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            let error = Secret::parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("AAAA") && !error.contains("MfKQ9r8G"), "{error}");
        }
    }
}

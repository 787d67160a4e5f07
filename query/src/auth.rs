//! Who may ask.

use hyper::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::problem::{Kind, Problem};

/// The one bearer token of `AUTH_TOKEN`, or none needed.
pub(crate) struct Auth {
    /// SHA-256, so that comparing takes the same time for tokens of any length.
    token: Option<[u8; 32]>,
}

impl Auth {
    /// An empty token means that none is needed.
    pub(crate) fn new(token: Option<&str>) -> Self {
        Self { token: token.filter(|token| !token.is_empty()).map(digest) }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.token.is_none()
    }

    /// # Errors
    /// A token is needed and `Authorization: Bearer <token>` does not bring it.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(expected) = &self.token else { return Ok(()) };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, token)) = given.and_then(|value| value.split_once(' ')) else {
            return Err(refused("send Authorization: Bearer <token>"));
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused("only the Bearer scheme is known"));
        }
        if bool::from(digest(token.trim()).ct_eq(expected)) {
            Ok(())
        } else {
            Err(refused("the token is not the one of this service"))
        }
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn refused(detail: &str) -> Problem {
    Problem::new(Kind::Unauthorized, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn admits(auth: &Auth, authorization: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
        }
        auth.check(&headers).is_ok()
    }

    #[test]
    fn only_the_token_itself_is_admitted() {
        let auth = Auth::new(Some("s3cret"));
        assert!(admits(&auth, Some("Bearer s3cret")));
        assert!(admits(&auth, Some("bearer  s3cret")));
        for wrong in
            ["Bearer s3cre", "Bearer s3crett", "Bearer ", "Bearer", "Basic s3cret", "s3cret"]
        {
            assert!(!admits(&auth, Some(wrong)), "{wrong}");
        }
        assert!(!admits(&auth, None));
    }

    #[test]
    fn empty_token_means_off() {
        for off in [Auth::new(None), Auth::new(Some(""))] {
            assert!(off.is_off());
            assert!(admits(&off, None));
        }
    }
}

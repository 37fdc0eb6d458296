//! A handler's caller, with the role that the handler asks for in its type. Who it is was found by
//! `guard`; a handler without a caller is open to everybody.

use std::{
    future::{Ready, ready},
    marker::PhantomData,
};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};

use super::{
    access::Identity,
    problem::{Problem, ProblemType},
};
use crate::config::Role;

/// May look.
pub(crate) struct Read;
/// May sell.
pub(crate) struct Sell;
/// May define SKUs and move stock.
pub(crate) struct Admin;

/// The least role that a handler asks for.
pub(crate) trait Needs {
    /// The role.
    const ROLE: Role;
}

impl Needs for Read {
    const ROLE: Role = Role::Read;
}
impl Needs for Sell {
    const ROLE: Role = Role::Sell;
}
impl Needs for Admin {
    const ROLE: Role = Role::Admin;
}

/// Who asks, with at least the role `N`.
pub(crate) struct Caller<N> {
    identity: Identity,
    role: PhantomData<N>,
}

impl<N> Caller<N> {
    /// Whose idempotency keys these are.
    pub(super) fn name(&self) -> &str {
        &self.identity.name
    }

    /// Who it is.
    pub(super) fn into_identity(self) -> Identity {
        self.identity
    }
}

impl<N: Needs> FromRequest for Caller<N> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let identity = request.extensions_mut().remove::<Result<Identity, Problem>>();
        let nobody = || Err(Problem::new(ProblemType::Internal, "nobody was identified"));
        ready(identity.unwrap_or_else(nobody).and_then(|identity| {
            if identity.role >= N::ROLE {
                return Ok(Self { identity, role: PhantomData });
            }
            let (has, needs) = (identity.role.name(), N::ROLE.name());
            let detail = format!("the API key has the role `{has}`; this needs `{needs}`");
            Err(Problem::new(ProblemType::RoleTooLow, detail))
        }))
    }
}

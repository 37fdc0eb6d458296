//! A handler's caller, with the role that the handler asks for in its type. Who it is was found by
//! `guard`; a handler without a caller is open to everybody.

use std::{
    future::{Ready, ready},
    marker::PhantomData,
};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};
use tidegate::webhooks::GROUP_PREFIX;

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

impl Caller<Sell> {
    /// An error if the group is an endpoint's, and the caller may not deal with those: what it
    /// takes there is posted nowhere.
    pub(super) fn may_have(&self, group: &str) -> Result<(), Problem> {
        if group.starts_with(GROUP_PREFIX) && self.identity.role < Role::Admin {
            let detail = format!("{group} is the group of a webhook, which needs `admin`");
            return Err(Problem::new(ProblemType::RoleTooLow, detail));
        }
        Ok(())
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

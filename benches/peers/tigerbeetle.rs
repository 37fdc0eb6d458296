//! TigerBeetle, one replica: a SKU is an account that can't be overdrawn, an order is a pending
//! transfer with the key as its id, and the transfer that posts it, in one request. Its client
//! gathers requests by itself. It knows no limit for each user. Built with the feature
//! `tigerbeetle`, since the client brings a library; the server is not installed for you.

use std::{path::Path, sync::Arc};

use anyhow::Result;

use crate::{contender::Contender, holds::Holder, work::Goods};

#[cfg(feature = "tigerbeetle")]
pub(crate) use runner::{holder, start, version};

#[cfg(not(feature = "tigerbeetle"))]
pub(crate) fn version() -> Result<String> {
    anyhow::bail!("built without the feature `tigerbeetle`")
}

#[cfg(not(feature = "tigerbeetle"))]
pub(crate) async fn start(_data: &Path, _goods: Goods<'_>) -> Result<Arc<dyn Contender>> {
    version()?;
    anyhow::bail!("it is never started then")
}

#[cfg(not(feature = "tigerbeetle"))]
pub(crate) async fn holder(_data: &Path, _goods: Goods<'_>) -> Result<Arc<dyn Holder>> {
    version()?;
    anyhow::bail!("it is never started then")
}

#[cfg(feature = "tigerbeetle")]
mod runner {
    use std::{net::TcpListener, ops::Range, process::Command, time::Duration};

    use anyhow::{Context, bail, ensure};
    use rustix::process::Signal;
    use tigerbeetle::{
        Account, AccountFlags, Client, CreateAccountStatus, CreateTransferStatus, Transfer,
        TransferFlags,
    };

    use super::{Arc, Contender, Goods, Holder, Path, Result};
    use crate::{
        contender::Waiting,
        holds::USERS,
        server::{self, Server},
        work::{Order, Outcome, hashed},
    };

    const LEDGER: u32 = 1;
    const CODE: u16 = 1;
    /// Where units come from, and where they go; SKUs follow.
    const SUPPLIER: u128 = 1;
    const BUYERS: u128 = 2;
    const FIRST_SKU: u128 = 3;
    /// Ids of posting transfers and of deliveries, apart from those of orders.
    const POSTS: u128 = 1 << 64;
    const DELIVERIES: u128 = 1 << 65;
    /// What a request may hold.
    const AT_ONCE: usize = 8_000;
    const READY_WAIT: Duration = Duration::from_secs(60);

    pub(crate) fn version() -> Result<String> {
        let program = server::find("tigerbeetle", &[])?;
        let output = Command::new(program).arg("version").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    struct TigerBeetle {
        client: Client,
        _server: Server,
    }

    pub(crate) async fn start(data: &Path, goods: Goods<'_>) -> Result<Arc<dyn Contender>> {
        Ok(Arc::new(serve(data, goods).await?))
    }

    /// The same for holds.
    pub(crate) async fn holder(data: &Path, goods: Goods<'_>) -> Result<Arc<dyn Holder>> {
        Ok(Arc::new(serve(data, goods).await?))
    }

    async fn serve(data: &Path, goods: Goods<'_>) -> Result<TigerBeetle> {
        let program = server::find("tigerbeetle", &[])?;
        let file = data.join("0_0.tigerbeetle");
        let mut format = Command::new(&program);
        format.args(["format", "--cluster=0", "--replica=0", "--replica-count=1"]).arg(&file);
        let made = format.output()?;
        ensure!(made.status.success(), "format: {}", String::from_utf8_lossy(&made.stderr));
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = Command::new(&program);
        command.arg("start").arg(format!("--addresses={address}")).arg(&file);
        let server = Server::start(command, &data.join("log"), Signal::TERM)?;
        let client = Client::new(0, &address).context("the client does not start")?;
        let this = TigerBeetle { client, _server: server };
        let filled = tokio::time::timeout(READY_WAIT, this.fill(goods.stock)).await;
        filled.context("the server is not ready")??;
        Ok(this)
    }

    impl TigerBeetle {
        async fn fill(&self, stock: &[u64]) -> Result<()> {
            let account =
                |id, flags| Account { id, ledger: LEDGER, code: CODE, flags, ..Account::default() };
            let limited = AccountFlags::DebitsMustNotExceedCredits;
            let skus = (FIRST_SKU..).zip(stock);
            let mut accounts: Vec<Account> =
                skus.clone().map(|(id, _)| account(id, limited)).collect();
            accounts.extend([SUPPLIER, BUYERS].map(|id| account(id, AccountFlags::default())));
            for accounts in accounts.chunks(AT_ONCE) {
                for made in self.client.create_accounts(accounts).await? {
                    ensure!(made.status == CreateAccountStatus::Created, "{:?}", made.status);
                }
            }
            let delivered = skus.filter(|(_, units)| **units > 0);
            let deliveries = delivered.map(|(id, units)| Transfer {
                id: DELIVERIES + id,
                debit_account_id: SUPPLIER,
                credit_account_id: id,
                amount: u128::from(*units),
                ledger: LEDGER,
                code: CODE,
                ..Transfer::default()
            });
            let deliveries: Vec<Transfer> = deliveries.collect();
            for deliveries in deliveries.chunks(AT_ONCE) {
                for made in self.client.create_transfers(deliveries).await? {
                    ensure!(made.status == CreateTransferStatus::Created, "{:?}", made.status);
                }
            }
            Ok(())
        }
    }

    fn pending(order: &Order) -> Transfer {
        Transfer {
            id: u128::from(order.key) + 1,
            debit_account_id: FIRST_SKU + order.sku as u128,
            credit_account_id: BUYERS,
            amount: u128::from(order.quantity),
            user_data_64: order.user,
            ledger: LEDGER,
            code: CODE,
            flags: TransferFlags::Pending,
            ..Transfer::default()
        }
    }

    fn post(pending: &Transfer) -> Transfer {
        Transfer {
            id: POSTS + pending.id,
            pending_id: pending.id,
            // All of it.
            amount: u128::MAX,
            flags: TransferFlags::PostPendingTransfer,
            ..Transfer::default()
        }
    }

    impl Contender for TigerBeetle {
        fn place<'a>(&'a self, order: &'a Order) -> Waiting<'a, Outcome> {
            Box::pin(async {
                let pending = pending(order);
                let post = post(&pending);
                use CreateTransferStatus as Status;
                let made = self.client.create_transfers(&[pending, post]).await?;
                let [pending, post] = &made[..] else { bail!("{} answers to 2", made.len()) };
                match (pending.status, post.status) {
                    (Status::Created | Status::Exists, Status::Created | Status::Exists) => {
                        Ok(Outcome::Accepted(pending.timestamp))
                    }
                    // An id that was refused once is refused for ever; stock never comes back here.
                    (Status::ExceedsCredits | Status::IdAlreadyFailed, _) => Ok(Outcome::SoldOut),
                    (
                        Status::ExistsWithDifferentAmount
                        | Status::ExistsWithDifferentDebitAccountId
                        | Status::ExistsWithDifferentUserData64,
                        _,
                    ) => Ok(Outcome::Conflict),
                    (pending, post) => bail!("pending: {pending:?}, post: {post:?}"),
                }
            })
        }

        fn left(&self, skus: usize) -> Waiting<'_, Vec<u64>> {
            Box::pin(async move {
                let ids: Vec<u128> = (FIRST_SKU..).take(skus).collect();
                let mut accounts = Vec::new();
                for ids in ids.chunks(AT_ONCE) {
                    accounts.extend(self.client.lookup_accounts(ids).await?);
                }
                ensure!(accounts.len() == skus, "{} of {skus} SKUs are there", accounts.len());
                let left = accounts.iter().map(|account| {
                    let used = account.debits_posted + account.debits_pending;
                    u64::try_from(account.credits_posted.checked_sub(used)?).ok()
                });
                left.collect::<Option<_>>().context("units below nothing")
            })
        }
    }

    impl Holder for TigerBeetle {
        fn pairs(&self, numbers: Range<u64>) -> Waiting<'_, ()> {
            Box::pin(async {
                let order = |key| Order { key, user: hashed(&[key]) % USERS, sku: 0, quantity: 1 };
                let holds: Vec<Transfer> = numbers.map(|n| pending(&order(n))).collect();
                let posts: Vec<Transfer> = holds.iter().map(post).collect();
                for together in [holds, posts] {
                    for made in self.client.create_transfers(&together).await? {
                        ensure!(made.status == CreateTransferStatus::Created, "{:?}", made.status);
                    }
                }
                Ok(())
            })
        }

        fn units(&self) -> Waiting<'_, (u64, u64)> {
            Box::pin(async {
                let found = self.client.lookup_accounts(&[FIRST_SKU]).await?;
                let item = found.first().context("the item is gone")?;
                Ok((u64::try_from(item.debits_pending)?, u64::try_from(item.debits_posted)?))
            })
        }

        fn end(&self) -> Waiting<'_, ()> {
            Box::pin(async { Ok(()) })
        }
    }
}

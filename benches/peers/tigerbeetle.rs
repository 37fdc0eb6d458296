use crate::contender::Contender;
use anyhow::{Result, bail};
use std::{path::Path, sync::Arc};
pub(crate) fn version() -> Result<String> {
    bail!("x")
}
pub(crate) async fn start(_data: &Path, _stock: &[u64]) -> Result<Arc<dyn Contender>> {
    bail!("x")
}

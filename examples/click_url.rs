//! Signs a click URL, as the README does it in Python and JavaScript:
//!
//! ```text
//! cargo run --example click_url -- https://px.example/c 1 KEY site=shop campaign=spring to=https://shop.example/phones
//! ```
//!
//! `1` and KEY are a key of `click.keys`: its ID, and its secret in base64.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use anyhow::Context as _;
use avtryck::keys::ClickKeyring;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::form_urlencoded::Serializer;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [at, key_id, key, params @ ..] = arguments.as_slice() else {
        anyhow::bail!("give the address of clicks, a key's ID, the key, and parameters");
    };
    let params: Option<Vec<_>> = params.iter().map(|param| param.split_once('=')).collect();
    let params = params.context("a parameter is NAME=VALUE")?;
    let key_id = key_id.parse().context("a key's ID is 0 to 255")?;
    println!("{}", click_url(at, key_id, key, &params)?);
    Ok(())
}

/// Returns the URL of a click with its parameters, of which `to` is the target.
pub(crate) fn click_url(
    at: &str,
    key_id: u8,
    key: &str,
    params: &[(&str, &str)],
) -> anyhow::Result<String> {
    let secret = STANDARD.decode(key).context("the key is not base64")?;
    let keyring = ClickKeyring::new([(key_id, secret.as_slice())]);
    let query = Serializer::new(String::new()).extend_pairs(params).finish();
    let signed = keyring.sign(&query).context("there is no key")?;
    Ok(format!("{at}?{signed}"))
}

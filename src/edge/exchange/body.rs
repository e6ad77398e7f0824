//! A request's body, read whole within its limits of size and time.

use std::error::Error;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use crate::edge::Refusal;
use crate::endpoint::{BODY_TIME_MAX, Endpoint};
use crate::refusal::Reason;

/// Reads the body of a request for `endpoint`, up to what the endpoint accepts.
pub(crate) async fn read(endpoint: Endpoint, body: Incoming) -> Result<Bytes, Refusal> {
    let bytes_max = endpoint.spec().body_bytes_max;
    // A body that says how long it is need not be read to be too long.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal(Reason::BodyTooLarge));
    }
    match tokio::time::timeout(BODY_TIME_MAX, copy(Limited::new(body, bytes_max))).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal(Reason::BodyTooLarge)),
        Ok(Err(_)) => Err(Refusal(Reason::BodyBroken)),
        Err(_) => Err(Refusal(Reason::BodySlow)),
    }
}

/// Copies a body's bytes. A piece as it arrived, even one byte, would keep the whole buffer that it
/// was read into.
async fn copy(mut body: Limited<Incoming>) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

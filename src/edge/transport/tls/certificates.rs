//! Certificates and their keys: read from files, chosen by name, and read again when the files
//! change.
//!
//! A client names the host that it wants. It gets the certificate with that name, or with `*.` in
//! place of the name's first label; of several, the first whose kind of key the client knows. A
//! client that names no host, or one that no certificate is for, gets the first of all, so that the
//! error that people see is about the name.
//!
//! The files are checked every few seconds, because a program that renews certificates need not
//! know of us. Chain and key are two files that are not replaced at the same moment: while a pair
//! does not match, or a file is broken, the certificate read before stays in use, and the files are
//! read again at their next change.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::clock::{self, UnixMicros};
use crate::config::{Certificate as Files, ConfigErrors, Unusable};
use crate::metrics::Metrics;

/// How often the files are checked for changes.
const CHECK_PERIOD: Duration = Duration::from_secs(5);

/// Reads the files as a start would, and returns those that cannot be used. Blocks.
#[must_use]
pub fn check(files: &[Files]) -> Vec<Unusable> {
    read_all(files).err().unwrap_or_default()
}

/// The certificates in use.
#[derive(Debug)]
pub struct Certificates {
    index: ArcSwap<CertificateIndex>,
    loaded: Mutex<Loaded>,
}

/// What was last read from the files.
#[derive(Debug)]
struct Loaded {
    files: Vec<Files>,
    stamps: Vec<Stamp>,
    read: Vec<Certificate>,
}

impl Certificates {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// All mistakes together.
    pub fn open(files: &[Files], metrics: &Metrics) -> Result<Certificates, ConfigErrors> {
        let stamps = stamps(files);
        let read = read_all(files)
            .map_err(|errors| ConfigErrors(errors.iter().map(Unusable::to_string).collect()))?;
        for (files, certificate) in files.iter().zip(&read) {
            certificate.report(files, metrics);
        }
        Ok(Certificates {
            index: ArcSwap::from_pointee(CertificateIndex::of(&read)),
            loaded: Mutex::new(Loaded {
                files: files.to_vec(),
                stamps,
                read,
            }),
        })
    }

    /// Reads the files again whenever one of them has changed. Never returns.
    pub async fn watch(self: Arc<Certificates>, metrics: Arc<Metrics>) {
        loop {
            tokio::time::sleep(CHECK_PERIOD).await;
            let (certificates, metrics) = (Arc::clone(&self), Arc::clone(&metrics));
            let reload = move || certificates.reload_changed(&metrics);
            if tokio::task::spawn_blocking(reload).await.is_err() {
                tracing::error!("reading certificates panicked");
            }
        }
    }

    /// Replaces the files by others and reads them, on a blocking thread.
    ///
    /// # Errors
    /// All mistakes together; then nothing changes. A mistake in a file that was already in use is
    /// not an error: what was read from it before stays in use.
    pub async fn exchange(
        self: Arc<Certificates>,
        files: Vec<Files>,
        metrics: Arc<Metrics>,
    ) -> Result<(), Vec<String>> {
        let replace = move || self.lock_loaded().replace(files, &self.index, &metrics);
        let replaced = tokio::task::spawn_blocking(replace).await;
        replaced.unwrap_or_else(|_| Err(vec!["reading certificates panicked".to_owned()]))
    }

    fn reload_changed(&self, metrics: &Metrics) {
        let mut loaded = self.lock_loaded();
        if loaded.stamps != stamps(&loaded.files) {
            let files = loaded.files.clone();
            // No mistake is an error here, because each file was in use.
            drop(loaded.replace(files, &self.index, metrics));
        }
    }

    fn lock_loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loaded {
    fn replace(
        &mut self,
        files: Vec<Files>,
        index: &ArcSwap<CertificateIndex>,
        metrics: &Metrics,
    ) -> Result<(), Vec<String>> {
        // Taken before reading, so that a change meanwhile is noticed at the next check.
        let stamps = stamps(&files);
        let (mut read, mut mistakes) = (Vec::new(), Vec::new());
        for (number, files) in files.iter().enumerate() {
            match (Certificate::read(number, files), self.of(files)) {
                (Ok(certificate), _) => {
                    certificate.report(files, metrics);
                    read.push(certificate);
                }
                (Err(error), Some(before)) => {
                    metrics.certificate_reload_failures.increment(1);
                    tracing::error!("{error}; until then the certificate read before stays in use");
                    read.push(before.clone());
                }
                (Err(error), None) => mistakes.push(error.to_string()),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        index.store(Arc::new(CertificateIndex::of(&read)));
        *self = Loaded {
            files,
            stamps,
            read,
        };
        Ok(())
    }

    /// Returns what was read from these files.
    fn of(&self, files: &Files) -> Option<&Certificate> {
        let at = self.files.iter().position(|known| known == files)?;
        self.read.get(at)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let index = self.index.load();
        index.choose(hello.server_name(), hello.signature_schemes())
    }
}

/// What shows that a file was replaced or written to: file system, inode number, and the time of
/// the last change to it or its permissions. `None` if there is no file.
type Stamp = Option<(u64, u64, i64, i64)>;

fn stamps(files: &[Files]) -> Vec<Stamp> {
    let stamp = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.ctime(), found.ctime_nsec()))
    };
    let both = |files: &Files| [stamp(&files.chain), stamp(&files.key)];
    files.iter().flat_map(both).collect()
}

/// Certificates by the names that they are for.
#[derive(Debug)]
struct CertificateIndex {
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    all: Vec<Arc<CertifiedKey>>,
}

impl CertificateIndex {
    fn of(certificates: &[Certificate]) -> CertificateIndex {
        let mut by_name: HashMap<String, Vec<_>> = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                let of_name = by_name.entry(name.clone()).or_default();
                of_name.push(Arc::clone(&certificate.certified));
            }
        }
        CertificateIndex {
            by_name,
            all: certificates
                .iter()
                .map(|certificate| Arc::clone(&certificate.certified))
                .collect(),
        }
    }

    fn choose(&self, name: Option<&str>, known: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let below = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
            self.by_name.get(name).or_else(below)
        });
        let fits = |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(known).is_some();
        named.unwrap_or(&self.all).iter().find(fits).cloned()
    }
}

/// A certificate as it was read.
#[derive(Clone, Debug)]
struct Certificate {
    certified: Arc<CertifiedKey>,
    /// In lower case; a leading `*.` stands for any one label.
    names: Vec<String>,
    /// From when until when the whole chain is valid.
    validity: (UnixMicros, UnixMicros),
}

fn read_all(files: &[Files]) -> Result<Vec<Certificate>, Vec<Unusable>> {
    let mut read = Vec::new();
    let mut errors = Vec::new();
    for (index, files) in files.iter().enumerate() {
        match Certificate::read(index, files) {
            Ok(certificate) => read.push(certificate),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(read)
    } else {
        Err(errors)
    }
}

impl Certificate {
    fn read(index: usize, files: &Files) -> Result<Certificate, Unusable> {
        let wrong = |key: &str, path: &Path, what: &str| {
            let key = format!("certificate[{index}].{key}");
            Unusable::new(key, format!("{} {what}", path.display()))
        };
        let chain = chain(&files.chain).map_err(|what| wrong("chain", &files.chain, &what))?;
        let mut names = Vec::new();
        let mut validity = (i64::MIN, i64::MAX);
        for (at, der) in chain.iter().enumerate() {
            let (_, parsed) = X509Certificate::from_der(der).map_err(|error| {
                let what = format!(
                    "holds a certificate that cannot be read ({error}); X.509 would be right"
                );
                wrong("chain", &files.chain, &what)
            })?;
            let of_this = parsed.validity();
            validity.0 = validity.0.max(of_this.not_before.timestamp());
            validity.1 = validity.1.min(of_this.not_after.timestamp());
            if at == 0 {
                names = dns_names(&parsed);
            }
        }
        let key = key(&files.key).map_err(|what| wrong("key", &files.key, &what))?;
        let certified = CertifiedKey::from_der(chain, key, &super::provider()).map_err(|error| {
            let what = match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
                    "is not the key of the first certificate in {}; the one that it was issued for would be right",
                    files.chain.display()
                ),
                error => format!("cannot be used ({error}); an RSA or ECDSA key would be right"),
            };
            wrong("key", &files.key, &what)
        })?;
        let micros = |seconds: i64| UnixMicros(seconds.saturating_mul(1_000_000));
        Ok(Certificate {
            certified: Arc::new(certified),
            names,
            validity: (micros(validity.0), micros(validity.1)),
        })
    }

    /// Logs what was read and sets the metric.
    fn report(&self, files: &Files, metrics: &Metrics) {
        let (from, until) = self.validity;
        metrics.certificate_expiry(&files.chain, until);
        let now = clock::now();
        let (names, chain) = (self.names.join(" "), files.chain.display());
        if now >= until {
            tracing::warn!(%chain, names, "a certificate has expired: browsers refuse it");
        } else if now < from {
            tracing::warn!(%chain, names, "a certificate is not valid yet: browsers refuse it");
        } else {
            let days_left = until.since(now).as_secs() / 86_400;
            tracing::info!(%chain, names, days_left, "certificate loaded");
        }
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names
        .into_iter()
        .flat_map(|names| &names.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let right = "PEM with the server's own certificate first would be right";
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| match error {
            pem::Error::Io(error) => format!("cannot be read ({error}); {right}"),
            error => format!("is no PEM ({error}); {right}"),
        })?;
    if chain.is_empty() {
        return Err(format!("holds no certificate; {right}"));
    }
    Ok(chain)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let right = "PEM with a private key that is not encrypted would be right";
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::Io(error) => format!("cannot be read ({error}); {right}"),
        pem::Error::NoItemsFound => format!("holds no private key; {right}"),
        // The error's own text may show a line of the key.
        _ => format!("is no PEM; {right}"),
    })
}

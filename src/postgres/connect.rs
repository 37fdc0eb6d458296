//! From an address to a connection: the URL, TLS as `sslmode` says, and keepalives, so that a
//! database that went away without a word is noticed on both sides. It knows no table.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use percent_encoding::percent_decode_str;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Config,
    config::{SslMode, TargetSessionAttrs},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Error;

/// How this program calls itself in `pg_stat_activity`.
pub(super) const APPLICATION: &str = "tidegate-sync";

/// How long a host may take to answer.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// How long bytes may stay unacknowledged before the connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What the server does on its side. A worker that is cut off gives its lock up within half a
/// minute; that has no effect on Unix sockets. A table that somebody else has locked is an error
/// that is told and tried again, instead of a worker that stands still. How long a statement may
/// take is left to the role's own `statement_timeout`: a first loading may take long.
const SESSION: &str = "
    set lock_timeout = '30s';
    set tcp_keepalives_idle = 10;
    set tcp_keepalives_interval = 5;
    set tcp_keepalives_count = 4;
    set timezone = 'UTC';
";

/// What of the server's certificate must be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Nothing: the connection is only encrypted.
    Nothing,
    /// Who signed it.
    Signer,
    /// Who signed it, and that it is the host's.
    All,
}

/// Where a database is and how to get there.
#[derive(Clone)]
pub(super) struct Address {
    /// One for each host, since each has a time of its own.
    hosts: Vec<Config>,
    tls: MakeRustlsConnect,
}

/// Hosts and the name of the database; nothing that is secret.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.hosts.iter().map(|host| (host.get_hosts(), host.get_dbname()));
        f.debug_list().entries(hosts).finish()
    }
}

impl Address {
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let known = ["postgres://", "postgresql://"];
        if !known.iter().any(|scheme| url.starts_with(scheme)) {
            // What was given instead may be a secret.
            return Err(wrong("must begin with postgres://"));
        }
        let Parts { url, check, mode, roots } = Parts::of(url)?;
        let urls = one_host_each(&url);
        let several = urls.len() > 1;
        let config = |url: &String| {
            let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
                let cause = std::error::Error::source(&error);
                wrong(cause.map_or("malformed".into(), |why| why.to_string()))
            })?;
            config.ssl_mode(mode).application_name(APPLICATION);
            if config.get_connect_timeout().is_none() {
                config.connect_timeout(CONNECT_WAIT);
            }
            if config.get_tcp_user_timeout().is_none() {
                config.tcp_user_timeout(SILENCE_MAX);
            }
            config.keepalives_idle(SILENCE_MAX);
            // Of several, one can be written at most: the others are replicas.
            let any = config.get_target_session_attrs() == TargetSessionAttrs::Any;
            if any && (several || config.get_hosts().len() > 1) {
                config.target_session_attrs(TargetSessionAttrs::ReadWrite);
            }
            Ok(config)
        };
        let hosts = urls.iter().map(config).collect::<Result<_, Error>>()?;
        let tls = MakeRustlsConnect::new(tls(check, roots.as_deref())?);
        Ok(Self { hosts, tls })
    }

    /// A connection to the first host that gives one, driven by a task that ends with it.
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        let mut last = Error::Silent;
        for host in &self.hosts {
            // The driver bounds only the way there. A server that has stopped still takes
            // connections, and never says a word.
            let wait = 2 * host.get_connect_timeout().copied().unwrap_or(CONNECT_WAIT);
            match timeout(wait, self.session(host)).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) => last = error,
                Err(_) => last = Error::Silent,
            }
        }
        Err(last)
    }

    async fn session(&self, host: &Config) -> Result<Client, Error> {
        let (client, connection) = host.connect(self.tls.clone()).await?;
        // An error is told to whoever waits for an answer, too.
        tokio::spawn(connection);
        client.batch_execute(SESSION).await?;
        Ok(client)
    }
}

/// The same URL for each of its hosts alone.
fn one_host_each(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url.to_owned()] };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| {
        // With the `@`.
        (&authority[..=user.len()], hosts)
    });
    hosts.split(',').map(|host| format!("{scheme}://{user}{host}{path}")).collect()
}

/// A URL without what the driver doesn't know.
struct Parts {
    url: String,
    check: Check,
    mode: SslMode,
    roots: Option<String>,
}

impl Parts {
    fn of(given: &str) -> Result<Self, Error> {
        let (base, query) = given.split_once('?').unwrap_or((given, ""));
        let (mut check, mut mode, mut roots) = (Check::Nothing, SslMode::Prefer, None);
        let mut left = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            match name {
                "sslmode" => {
                    (mode, check) = match &*value {
                        "disable" => (SslMode::Disable, Check::Nothing),
                        "prefer" => (SslMode::Prefer, Check::Nothing),
                        "require" => (SslMode::Require, Check::Nothing),
                        "verify-ca" => (SslMode::Require, Check::Signer),
                        "verify-full" => (SslMode::Require, Check::All),
                        _ => {
                            let known = "disable, prefer, require, verify-ca or verify-full";
                            return Err(wrong(format!("sslmode must be {known}")));
                        }
                    }
                }
                "sslrootcert" => roots = Some(value.into_owned()).filter(|file| file != "system"),
                _ => left.push(pair),
            }
        }
        // As PostgreSQL's own clients do: who names a root wants it to be looked at.
        if roots.is_some() && mode == SslMode::Require && check == Check::Nothing {
            check = Check::Signer;
        }
        let query = left.join("&");
        let url = if query.is_empty() { base.to_owned() } else { format!("{base}?{query}") };
        Ok(Self { url, check, mode, roots })
    }
}

fn wrong(why: impl Into<String>) -> Error {
    Error::Address(why.into())
}

fn tls(check: Check, roots: Option<&str>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if check == Check::Nothing {
        Arc::new(Lenient { inner: None, provider: Arc::clone(&provider) })
    } else {
        let roots = Arc::new(root_store(roots)?);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| wrong(format!("sslrootcert: {error}")))?;
        if check == Check::All {
            inner
        } else {
            Arc::new(Lenient { inner: Some(inner), provider: Arc::clone(&provider) })
        }
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// The certificates in `file`, or those of the system.
fn root_store(file: Option<&str>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(wrong("the system has no root certificates; name some in sslrootcert"));
        }
        return Ok(roots);
    };
    let unread = |error: String| wrong(format!("sslrootcert {file}: {error}"));
    let certificates = CertificateDer::pem_file_iter(Path::new(file));
    for certificate in certificates.map_err(|error| unread(error.to_string()))? {
        let certificate = certificate.map_err(|error| unread(error.to_string()))?;
        roots.add(certificate).map_err(|error| unread(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unread("no certificate in PEM is in it".to_owned()));
    }
    Ok(roots)
}

/// Takes more certificates than a browser would, as `sslmode` below `verify-full` asks for: with an
/// inner verifier those of other hosts, without one all. Signatures are checked anyway.
#[derive(Debug)]
struct Lenient {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(certificate, others, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                NotValidForName | NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(query: &str) -> Parts {
        Parts::of(&format!("postgres://u:secret@h/d{query}")).unwrap()
    }

    #[test]
    fn sslmode_is_taken_as_by_other_clients() {
        for (query, mode, check) in [
            ("", SslMode::Prefer, Check::Nothing),
            ("?sslmode=disable", SslMode::Disable, Check::Nothing),
            ("?sslmode=require", SslMode::Require, Check::Nothing),
            ("?sslmode=require&sslrootcert=a", SslMode::Require, Check::Signer),
            ("?sslmode=verify-ca", SslMode::Require, Check::Signer),
            ("?sslmode=verify-full&sslrootcert=system", SslMode::Require, Check::All),
        ] {
            let Parts { url, mode: found, check: checked, .. } = parts(query);
            assert_eq!((found, checked), (mode, check), "{query}");
            assert_eq!(url, "postgres://u:secret@h/d");
        }
        let Parts { url, roots, .. } = parts("?a=1&sslrootcert=%2Fa%20b&c=2");
        assert_eq!(
            (url.as_str(), roots.as_deref()),
            ("postgres://u:secret@h/d?a=1&c=2", Some("/a b"))
        );
    }

    #[test]
    fn of_several_hosts_the_one_that_can_be_written_is_taken() {
        for (hosts, parameters, wanted) in [
            ("a", "", TargetSessionAttrs::Any),
            ("a,b:5433", "", TargetSessionAttrs::ReadWrite),
            ("a,b", "?target_session_attrs=read-write", TargetSessionAttrs::ReadWrite),
            ("a,b", "?target_session_attrs=read-only", TargetSessionAttrs::ReadOnly),
        ] {
            let address = Address::new(&format!("postgres://u@{hosts}/d{parameters}")).unwrap();
            for host in &address.hosts {
                assert_eq!(host.get_target_session_attrs(), wanted, "{hosts}{parameters}");
                assert_eq!((host.get_hosts().len(), host.get_user()), (1, Some("u")));
                assert_eq!(host.get_dbname(), Some("d"));
            }
            assert_eq!(address.hosts.len(), hosts.split(',').count());
        }
        let urls = one_host_each("postgres://u:p%40w@a,[::1]:5433/d?x=a,b");
        assert_eq!(urls, ["postgres://u:p%40w@a/d?x=a,b", "postgres://u:p%40w@[::1]:5433/d?x=a,b"]);
        assert_eq!(one_host_each("postgres:///d?host=/tmp"), ["postgres:///d?host=/tmp"]);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_left_for_the_next_host() {
        let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // It takes a connection and never answers: nobody is there to.
        let silent = listen();
        // Nobody listens there any more.
        let gone = listen().local_addr().unwrap();
        let url = format!(
            "postgres://u@{},{gone}/d?sslmode=disable&connect_timeout=1",
            silent.local_addr().unwrap()
        );
        let tried = Address::new(&url).unwrap().connect().await;
        assert!(matches!(tried, Err(Error::Database(_))), "the next host was not tried: {tried:?}");
        let alone = url.replace(&format!(",{gone}"), "");
        let tried = Address::new(&alone).unwrap().connect().await;
        assert!(matches!(tried, Err(Error::Silent)), "{tried:?}");
    }

    #[test]
    fn what_is_wrong_is_named_and_passwords_are_not() {
        for (url, part) in [
            ("mysql://u:secret@h/d", "postgres://"),
            ("host=h password=secret", "postgres://"),
            ("postgres://u:secret@h/d?sslmode=maybe", "verify-full"),
            ("postgres://u:secret@h/d?sslmode=verify-ca&sslrootcert=/nowhere", "/nowhere"),
            ("postgres://u:secret@h:port/d", "address"),
        ] {
            let error = Address::new(url).err().unwrap().to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
        let address = Address::new("postgres://u:secret@h/d").unwrap();
        assert!(!format!("{address:?}").contains("secret"), "{address:?}");
    }
}

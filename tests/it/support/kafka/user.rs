//! Who may log in to a broker, and how.

use std::path::Path;

use crate::support::tls::Authority;

/// How a user says who it is.
#[derive(Clone, Copy)]
pub(crate) enum User<'a> {
    /// By a name and a password, in this mechanism.
    Password(&'a str),
    /// By a token, which any authority may have signed, or none.
    Token,
    /// By a certificate of this authority.
    Certificate(&'a Authority),
}

impl User<'_> {
    /// The user's name, and its password where it has one.
    pub(crate) const NAME: &'static str = "avtryck";
    pub(crate) const PASSWORD: &'static str = "of-the-test";

    pub(super) fn protocol(self) -> &'static str {
        match self {
            User::Certificate(_) => "SSL",
            User::Password(_) | User::Token => "SASL_SSL",
        }
    }

    pub(super) fn properties(self, dir: &Path) -> String {
        let (name, password) = (User::NAME, User::PASSWORD);
        match self {
            User::Password(mechanism) => {
                let module = match mechanism {
                    "PLAIN" => format!("plain.PlainLoginModule required user_{name}=\"{password}\""),
                    _ => "scram.ScramLoginModule required".to_owned(),
                };
                format!(
                    "sasl.enabled.mechanisms={mechanism}\n\
                     listener.name.secure.{}.sasl.jaas.config=org.apache.kafka.common.security.{module};",
                    mechanism.to_lowercase()
                )
            }
            // A connection ends with its token, unless the next one is shown on it.
            User::Token => "sasl.enabled.mechanisms=OAUTHBEARER\n\
                 listener.name.secure.connections.max.reauth.ms=3600000\n\
                 listener.name.secure.oauthbearer.sasl.jaas.config=\
                 org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
                 unsecuredLoginStringClaim_sub=\"broker\";\n\
                 listener.name.secure.oauthbearer.sasl.server.callback.handler.class=\
                 org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
                .to_owned(),
            User::Certificate(authority) => {
                let trusted = dir.join("clients.pem");
                authority.write(&trusted);
                format!(
                    "listener.name.secure.ssl.client.auth=required\n\
                     listener.name.secure.ssl.truststore.type=PEM\n\
                     listener.name.secure.ssl.truststore.location={}",
                    trusted.display()
                )
            }
        }
    }

    pub(super) fn scram(self) -> Option<String> {
        match self {
            User::Password(mechanism) if mechanism.starts_with("SCRAM") => {
                let (name, password) = (User::NAME, User::PASSWORD);
                Some(format!("{mechanism}=[name={name},password={password}]"))
            }
            User::Password(_) | User::Token | User::Certificate(_) => None,
        }
    }
}

//! Settings of the call proxy that came before, where each means several of ours, or a file that it had.

use std::path::Path;

use super::parse::switch;

/// Where the proxy spoke plain HTTP, and from where it sent clients to HTTPS.
const PORT: u16 = 8008;
const LOG_DIRECTORY: &str = "/var/log/microservices-persistent-communication";

/// What one of our settings is when it is not set itself. `value` has the values of variables.
pub fn value_of(setting: &str, value: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let is_on = |name: &str| value(name).as_deref().and_then(switch).unwrap_or(false);
    let is_set = |name: &str| value(name).is_some_and(|value| !value.is_empty());
    let has_certificate = || is_set("ROUTEMASTER_TLS_CERT") || is_set("ROUTEMASTER_TLS_KEY");
    match setting {
        "ROUTEMASTER_TLS_CERT" if is_on("TLS") && !has_certificate() => {
            Some("ssl/server.crt".into())
        }
        "ROUTEMASTER_TLS_KEY" if is_on("TLS") && !has_certificate() => {
            Some("ssl/server.key".into())
        }
        "ROUTEMASTER_REDIRECT_BIND" if is_on("TLS") && is_on("REDIRECT_TO_TLS") => {
            let bind = value("ROUTEMASTER_BIND").filter(|bind| !bind.is_empty());
            let bind = bind.unwrap_or_else(|| super::default_of("ROUTEMASTER_BIND").into());
            Some(if bind.contains(':') {
                format!("[{bind}]:{PORT}")
            } else {
                format!("{bind}:{PORT}")
            })
        }
        "ROUTEMASTER_LOG_FILE" if is_on("FILE_LOG_ENABLED") => {
            let had = Path::new(LOG_DIRECTORY).is_dir();
            Some(if had { format!("{LOG_DIRECTORY}/app.log") } else { "routemaster.log".into() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(setting: &str, pairs: &[(&str, &str)]) -> Option<String> {
        value_of(setting, &|name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn tls_has_its_files_where_the_proxy_had_them() {
        let on = [("TLS", "1")];
        assert_eq!(value("ROUTEMASTER_TLS_CERT", &on).as_deref(), Some("ssl/server.crt"));
        assert_eq!(value("ROUTEMASTER_TLS_KEY", &on).as_deref(), Some("ssl/server.key"));
        assert_eq!(value("ROUTEMASTER_TLS_KEY", &[("TLS", "0")]), None);
        assert_eq!(value("ROUTEMASTER_TLS_KEY", &[("TLS", "perhaps")]), None);
        let own = [("TLS", "1"), ("ROUTEMASTER_TLS_CERT", "own.pem")];
        assert_eq!(value("ROUTEMASTER_TLS_KEY", &own), None);
    }

    #[test]
    fn it_redirects_with_tls_alone() {
        let redirect = |pairs: &[(&str, &str)]| value("ROUTEMASTER_REDIRECT_BIND", pairs);
        assert_eq!(redirect(&[("REDIRECT_TO_TLS", "1")]), None);
        let both = [("TLS", "1"), ("REDIRECT_TO_TLS", "true")];
        assert_eq!(redirect(&both).as_deref(), Some("127.0.0.1:8008"));
        let everywhere = [both[0], both[1], ("ROUTEMASTER_BIND", "::")];
        assert_eq!(redirect(&everywhere).as_deref(), Some("[::]:8008"));
    }

    #[test]
    fn a_log_goes_into_a_file_if_it_is_wanted() {
        let file = |value_: &str| value("ROUTEMASTER_LOG_FILE", &[("FILE_LOG_ENABLED", value_)]);
        assert!(file("1").is_some_and(|file| file.ends_with(".log")));
        assert_eq!((file("0"), file("")), (None, None));
    }
}

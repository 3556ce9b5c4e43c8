//! What to do first, with the commands to paste.

use maud::{Markup, html};

use crate::api::console::parts;
use crate::api::console::visit::Visit;
use crate::http::authentication::Caller;
use crate::shell::quoted;
use crate::tls::development::ca_path;

/// The commands of the first minute, for whoever looks at an empty bus.
pub fn shown(visit: &Visit) -> Markup {
    let settings = &visit.console.api.settings;
    let url = visit.console.api.settings.public_url();
    let url = visit.host.as_ref().map_or_else(
        || url.as_str().trim_end_matches('/').to_owned(),
        |host| format!("https://{host}"),
    );
    let token = match &visit.session.caller {
        Caller::Client(client) if client.service_name().is_none() => {
            visit.console.api.authentication.view_of(client, &visit.session.caller)
        }
        _ => "<token>".to_owned(),
    };
    let ca = if settings.uses_development_certificate() {
        format!(" --cacert {}", quoted(&ca_path(&settings.data_dir).display().to_string()))
    } else {
        String::new()
    };
    let publish = format!(
        "curl{ca} -u '{token}:' {url}/topics/widgets \\\n  -d '{{\"type\":\"create\",\"url\":\"https://example.com/widgets/1\"}}'"
    );
    let listen = format!("routemaster listen widgets --url {url}");
    let again =
        format!("routemaster publish widgets update https://example.com/widgets/1 --url {url}");
    html! {
        section.first aria-labelledby="first-title" {
            h2 #first-title { "Nothing has passed yet. Begin here" }
            ol {
                li { p { "Publish an event. The first one makes its topic." } (parts::block(&publish)) }
                li { p { "Receive the topic's events from now on, in batches." } (parts::block(&listen)) }
                li { p { "Publish one more, and see it arrive: there, and on this page." } (parts::block(&again)) }
            }
            @if token == "<token>" {
                p.hint { "A token is made with " code { "routemaster token create <name>" } "." }
            }
        }
    }
}

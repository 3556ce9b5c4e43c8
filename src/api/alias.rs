//! Routes that have a second path.

use utoipa_axum::router::UtoipaMethodRouter;

use super::state::Shared;

/// Gives a route a second path, which is described as the same.
pub fn also_at(
    alias: &str,
    (schemas, mut paths, methods): UtoipaMethodRouter<Shared>,
) -> UtoipaMethodRouter<Shared> {
    if let Some((path, item)) = paths.paths.first_key_value() {
        let mut item = item.clone();
        let all = [("GET", &mut item.get), ("POST", &mut item.post), ("DELETE", &mut item.delete)];
        for (method, operation) in all {
            if let Some(operation) = operation {
                operation.summary = Some(format!("The same as `{method} {path}`."));
                operation.description = None;
                operation.operation_id.get_or_insert_default().push_str("_alias");
            }
        }
        paths.paths.insert(alias.to_owned(), item);
    }
    (schemas, paths, methods)
}

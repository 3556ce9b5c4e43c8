# Builds the one binary and ships it alone. The container runs `routemaster serve`; give it `web` or
# `worker` as its command to run one role, or `sh` for a look around.
FROM rust:1.95.0-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY bench bench
COPY client client
COPY command command
RUN cargo build --profile dist --locked --package routemaster-command

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/routemaster --create-home routemaster
COPY --from=build /build/target/dist/routemaster /usr/local/bin/routemaster
COPY docker/entrypoint /usr/local/bin/entrypoint
RUN install --directory --owner routemaster --group routemaster /var/lib/routemaster/data
USER routemaster
WORKDIR /var/lib/routemaster
ENV PORT=17890 ROUTEMASTER_BIND=0.0.0.0 ROUTEMASTER_DATA_DIR=/var/lib/routemaster/data
VOLUME /var/lib/routemaster/data
EXPOSE 17890
# The check asks whether the process answers, which it does over plain HTTP too. A worker alone has no port: run it with --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD curl --silent --fail "http://localhost:${PORT}/health/ping" || exit 1
ENTRYPOINT ["entrypoint"]

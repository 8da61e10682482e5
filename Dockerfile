# The images of Pillion: static programs without a base image, run by an unprivileged user.
#
#     docker build --target usersvc -t pillion/usersvc .
#
# The first stage compiles the programs, so building needs no Go on this machine. Without a registry
# there is no image to compile in. `make prebuilt` compiles on this machine then, and writes
# bin/linux/Dockerfile, which is this file without the first stage.
#
# The folders /data, /key, /services, /ca and /backups belong to the user of the programs; a new
# volume mounted there gets the same owner. /key has the service's own key, and for usersvc and
# ridersvc the secret that they share. /services has the public keys by which authsvc knows the
# services: no other service needs it. /ca has the CA certificates of the NATS servers. `pillion keys
# init` and `pillion certs init` fill all of these, and the services only read them. The programs
# trust the public CAs too, which are part of them.

ARG GO_IMAGE=golang:1.26.8-alpine
ARG NATS_IMAGE=nats:2.15.2
ARG CADDY_IMAGE=caddy:2.11.4

FROM ${GO_IMAGE} AS build
ENV CGO_ENABLED=0 GOFLAGS=-trimpath
WORKDIR /src/tools
COPY tools/ ./
RUN ["go", "build", "-ldflags=-s -w", "-o", "/out/", "github.com/nats-io/natscli/nats"]
WORKDIR /src
COPY go.mod go.sum ./
RUN ["go", "mod", "download"]
COPY . ./
RUN ["go", "build", "-ldflags=-s -w", "-o", "/out/", "./cmd/authsvc", "./cmd/usersvc", "./cmd/ridersvc", "./cmd/pillion"]

FROM scratch AS base
COPY --chown=65532:65532 deploy/data/ /key/
COPY --chown=65532:65532 deploy/data/ /ca/
COPY --chown=65532:65532 deploy/data/ /rides/
USER 65532:65532
ENV LOG_FORMAT=json

FROM base AS authsvc
COPY --chown=65532:65532 deploy/data/ /data/
COPY --chown=65532:65532 deploy/data/ /services/
COPY --from=build /out/authsvc /authsvc
ENV AUTH_ADDR=0.0.0.0:3000 OPS_ADDR=0.0.0.0:3010 PILLION_DATA=/data SERVICES_DIR=/services SERVICE_KEY_FILE=/key/authsvc.nk
EXPOSE 3000 3010
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["/authsvc", "health"]
ENTRYPOINT ["/authsvc"]

FROM base AS usersvc
COPY --from=build /out/usersvc /usersvc
ENV USER_ADDR=0.0.0.0:3001 OPS_ADDR=0.0.0.0:3011 SERVICE_KEY_FILE=/key/usersvc.nk RIDES_SECRET_FILE=/rides/rides.secret
EXPOSE 3001 3011
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["/usersvc", "health"]
ENTRYPOINT ["/usersvc"]

FROM base AS ridersvc
COPY --from=build /out/ridersvc /ridersvc
ENV RIDER_ADDR=0.0.0.0:3002 OPS_ADDR=0.0.0.0:3012 SERVICE_KEY_FILE=/key/ridersvc.nk RIDES_SECRET_FILE=/rides/rides.secret
EXPOSE 3002 3012
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["/ridersvc", "health"]
ENTRYPOINT ["/ridersvc"]

# What an operator runs: `pillion`, `authsvc` and the `nats` CLI, with the operator's key. /backups is
# for backups.
FROM base AS ops
COPY --chown=65532:65532 deploy/data/ /backups/
COPY --from=build /out/pillion /out/authsvc /out/nats /usr/local/bin/
ENV SERVICE_KEY_FILE=/key/operator.nk NATS_NKEY=/key/operator.nk HOME=/tmp USER=operator
CMD ["pillion", "--version"]

# The whole system in one container. Its NATS server listens inside the container only. /apart is for
# the keys of all services, which `pillion keys init` and `pillion certs init` create.
FROM base AS pillion
COPY --chown=65532:65532 deploy/data/ /data/
COPY --chown=65532:65532 deploy/data/ /services/
COPY --chown=65532:65532 deploy/data/ /apart/authsvc/
COPY --chown=65532:65532 deploy/data/ /apart/usersvc/
COPY --chown=65532:65532 deploy/data/ /apart/ridersvc/
COPY --chown=65532:65532 deploy/data/ /apart/operator/
COPY --chown=65532:65532 deploy/data/ /apart/nats/
COPY --chown=65532:65532 deploy/data/ /apart/gateway/
COPY --chown=65532:65532 deploy/data/ /apart/rides/
COPY --chown=65532:65532 deploy/data/ /apart/ca/
COPY --from=build /out/pillion /pillion
ENV AUTH_ADDR=0.0.0.0:3000 USER_ADDR=0.0.0.0:3001 RIDER_ADDR=0.0.0.0:3002 PILLION_ADDR=0.0.0.0:8080 \
    OPS_ADDR=0.0.0.0:3009 PILLION_DATA=/data
EXPOSE 3000 3001 3002 8080 3009
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["/pillion", "health"]
ENTRYPOINT ["/pillion"]

# The published NATS server, with a folder for streams that an unprivileged user can write to.
FROM ${NATS_IMAGE} AS nats
COPY --chown=65532:65532 deploy/data/ /data/
COPY deploy/nats/nats.conf deploy/nats/cluster.conf deploy/nats/tls.conf deploy/nats/access.conf /nats/
USER 65532:65532
ENTRYPOINT ["/nats-server"]
CMD ["--config", "/nats/nats.conf"]

# A NATS server of a cluster. pillion is there for the health check, since the NATS image has no client.
FROM nats AS node
COPY --from=build /out/pillion /pillion
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["/pillion", "health", "--ops-addr", "127.0.0.1:8222"]
CMD ["--config", "/nats/cluster.conf"]

# The published Caddy, which stands before the instances of a cluster. pillion is there for the health
# check.
FROM ${CADDY_IMAGE} AS gateway
COPY --from=build /out/pillion /pillion
COPY deploy/caddy/Caddyfile /etc/caddy/Caddyfile
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["/pillion", "health", "--ops-addr", "127.0.0.1:2019"]
ENTRYPOINT ["/usr/bin/caddy"]
CMD ["run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]

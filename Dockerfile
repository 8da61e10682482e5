# The images of Pillion: static binaries without a base image, run by an unprivileged user.
#
# The binaries come from `make build`. So an image contains the tested binaries, and building it
# needs no registry:
#
#     make build
#     docker build --target usersvc -t pillion/usersvc .
#
# The folders /data, /key, /services and /ca belong to that user; a new volume mounted there gets the
# same owner. /key has the service's own key. /services has the public keys, which authsvc reads, and
# the secret that usersvc and ridersvc share: mount the same volume in all three. `pillion keys init`
# fills both. /ca has the CA certificates of the NATS servers.

ARG NATS_IMAGE=nats:2.15.2

FROM scratch AS base
COPY --chown=65532:65532 deploy/data/ /data/
COPY --chown=65532:65532 deploy/data/ /key/
COPY --chown=65532:65532 deploy/data/ /services/
COPY --chown=65532:65532 deploy/data/ /ca/
USER 65532:65532
ENV PILLION_DATA=/data LOG_FORMAT=json

FROM base AS authsvc
COPY bin/authsvc /authsvc
ENV AUTH_ADDR=0.0.0.0:3000 OPS_ADDR=0.0.0.0:3010 SERVICES_DIR=/services SERVICE_KEY_FILE=/key/authsvc.nk
EXPOSE 3000 3010
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["/authsvc", "health"]
ENTRYPOINT ["/authsvc"]

FROM base AS usersvc
COPY bin/usersvc /usersvc
ENV USER_ADDR=0.0.0.0:3001 OPS_ADDR=0.0.0.0:3011 SERVICE_KEY_FILE=/key/usersvc.nk RIDES_SECRET_FILE=/services/rides.secret
EXPOSE 3001 3011
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["/usersvc", "health"]
ENTRYPOINT ["/usersvc"]

FROM base AS ridersvc
COPY bin/ridersvc /ridersvc
ENV RIDER_ADDR=0.0.0.0:3002 OPS_ADDR=0.0.0.0:3012 SERVICE_KEY_FILE=/key/ridersvc.nk RIDES_SECRET_FILE=/services/rides.secret
EXPOSE 3002 3012
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["/ridersvc", "health"]
ENTRYPOINT ["/ridersvc"]

# The whole system in one container. Its NATS server listens inside the container only. /apart is for
# the keys of all services, which `pillion keys init` and `pillion certs init` create.
FROM base AS pillion
COPY bin/pillion /pillion
COPY --chown=65532:65532 deploy/data/ /apart/authsvc/
COPY --chown=65532:65532 deploy/data/ /apart/usersvc/
COPY --chown=65532:65532 deploy/data/ /apart/ridersvc/
COPY --chown=65532:65532 deploy/data/ /apart/operator/
COPY --chown=65532:65532 deploy/data/ /apart/nats/
COPY --chown=65532:65532 deploy/data/ /apart/ca/
ENV AUTH_ADDR=0.0.0.0:3000 USER_ADDR=0.0.0.0:3001 RIDER_ADDR=0.0.0.0:3002 OPS_ADDR=0.0.0.0:3009
EXPOSE 3000 3001 3002 3009
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
COPY bin/pillion /pillion
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["/pillion", "health", "--ops-addr", "127.0.0.1:8222"]
CMD ["--config", "/nats/cluster.conf"]

# The images of Pillion: static binaries on nothing, run by nobody in particular.
#
# The binaries come from `make build`, so that an image is made from the same bytes that were tested and no registry is needed to
# make one:
#
#     make build
#     docker build --target usersvc -t pillion/usersvc .
#
# The folders /data, /key, /services and /ca belong to that nobody; a new volume that is mounted there takes its owner over. /key has what a
# service proves with who it is, and is its own. /services has the public halves, which authsvc reads, and the secret that usersvc and
# ridersvc share: mount the same volume in all three. `pillion keys init` fills them. /ca has the CA whose NATS servers are trusted.

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

# Everything in one container. NATS listens inside it only. Under /apart is room for the keys of all services, for `pillion keys init` and
# `pillion certs init`.
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

# NATS as it is published, with a folder for its streams that it may write to without being root.
FROM ${NATS_IMAGE} AS nats
COPY --chown=65532:65532 deploy/data/ /data/
COPY deploy/nats/nats.conf deploy/nats/cluster.conf deploy/nats/tls.conf deploy/nats/access.conf /nats/
USER 65532:65532
ENTRYPOINT ["/nats-server"]
CMD ["--config", "/nats/nats.conf"]

# A NATS server of a cluster. The programs are there for its health check, since the image of NATS has none.
FROM nats AS node
COPY bin/pillion /pillion
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["/pillion", "health", "--ops-addr", "127.0.0.1:8222"]
CMD ["--config", "/nats/cluster.conf"]

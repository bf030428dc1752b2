# The application of the quick start: psql, and a small demo that writes a row a second.
ARG DEBIAN_IMAGE=debian:bookworm-slim
FROM ${DEBIAN_IMAGE}
ENV LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends postgresql-client ca-certificates curl \
 && rm -rf /var/lib/apt/lists/*
COPY demo.sh /usr/local/bin/demo
RUN chmod 755 /usr/local/bin/demo
USER nobody
CMD ["demo"]

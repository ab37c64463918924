# Kidoban as a container: one static file, and the folders that it uses.
# How to run it, and what the host has to do, is in docs/INSTALL.md.

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
# The zones of the world are linked in (time/tzdata), and nothing is dynamic.
RUN CGO_ENABLED=0 go build -trimpath -pgo=cmd/kidoban/throughput.pgo -ldflags "-s -w -X main.version=${VERSION}" -o /out/kidoban ./cmd/kidoban

FROM scratch
COPY --from=build /out/kidoban /usr/local/bin/kidoban
COPY THIRD_PARTY_LICENSES.md /usr/share/doc/kidoban/

# WORKDIR makes folders where there is no shell to do it.
WORKDIR /etc/kidoban
WORKDIR /run/kidoban
WORKDIR /var/run/wireguard
WORKDIR /var/lib/kidoban
# All that is ever written, so that the rest may be read-only.
VOLUME ["/run/kidoban", "/var/run/wireguard", "/var/lib/kidoban"]

ENV PATH=/usr/local/bin
# There is no USER: engines give a user who is not root no capability, whatever
# --cap-add says. The run line takes every capability from root but NET_ADMIN.
STOPSIGNAL SIGTERM
# Unhealthy is a gateway that does not turn any more. One in doubt is healthy:
# it keeps everybody out, says why, and to start it anew would mend nothing.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 CMD ["/usr/local/bin/kidoban", "live"]
ENTRYPOINT ["/usr/local/bin/kidoban"]
CMD ["run"]

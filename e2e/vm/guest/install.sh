#!/bin/sh
# Installs the package and configures the two nodes, in the root of the machine's disk
# before its first boot. Arguments: the package, and the directory with the units.
set -eu

dpkg --install "$1" >/dev/null

# alpha is the service as it is installed; beta is a second one, dials, and lives in a
# network namespace.
mkdir -m 755 /etc/beta
(umask 027 && tunctl genkey >/etc/beta/private.key)
chgrp tund /etc/beta/private.key
cat >>/etc/tund/tund.toml <<END

[peer.beta]
public_key = "$(tunctl pubkey </etc/beta/private.key)"
addresses = ["10.77.0.1/30"]
rekey_interval = "10s"
keepalive = "1s"
END
cat >/etc/beta/tund.toml <<END
[node]
private_key_file = "private.key"

[peer.alpha]
public_key = "$(tunctl pubkey </etc/tund/private.key)"
endpoints = ["10.9.1.1:7900"]
addresses = ["10.77.0.2/30"]
rekey_interval = "10s"
keepalive = "1s"
END

units=/etc/systemd/system
cp /lib/systemd/system/tund.service "$units/beta.service"
cp -r "$2/." "$units"
systemctl --quiet enable links.service beta.service shell.service
# What an emulated processor would be busy with for nothing.
systemctl --quiet mask ssh.service serial-getty@ttyS0.service getty@tty1.service e2scrub_reap.service systemd-logind.service

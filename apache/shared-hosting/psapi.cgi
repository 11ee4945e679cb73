#!/bin/sh
# Starts psapi-fcgi under suexec: mode 0755, owned by you, in a directory that nobody else can write.
# Program, configuration (without PSAPI_LISTEN), secret and spool lie outside the document root.
exec /home/YOU/psapi/psapi-fcgi -f /home/YOU/psapi/psapi.conf

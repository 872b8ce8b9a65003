# libmaxminddb reads what geoip() and asn() ask. Without it everything else is built, and such a rule says that it is not in this build.
pkg_check_modules(MAXMINDDB IMPORTED_TARGET libmaxminddb)
option(LIMPID_GEOIP "Build geoip() and asn() where libmaxminddb is there" ON)
set(LIMPID_HAS_GEOIP FALSE)
if(LIMPID_GEOIP AND MAXMINDDB_FOUND)
  set(LIMPID_HAS_GEOIP TRUE)
else()
  message(STATUS "geoip() and asn() are left out: they need libmaxminddb-dev")
endif()

# Run at every build: cmake -D SOURCE=... -D OUTPUT=... -D APR_VERSION=... -P git_version.cmake
# Writes version.cc from its template; an unchanged commit leaves the file, and so the build, alone.
execute_process(
  COMMAND git describe --always --dirty --abbrev=12 --exclude=*
  WORKING_DIRECTORY "${SOURCE}"
  OUTPUT_VARIABLE APR_GIT_SHA OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE result ERROR_QUIET)
if(NOT result EQUAL 0 OR APR_GIT_SHA STREQUAL "")
  set(APR_GIT_SHA "unknown")
endif()
configure_file("${SOURCE}/cli/version.cc.in" "${OUTPUT}" @ONLY)

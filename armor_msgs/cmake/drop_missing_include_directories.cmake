# SPDX-License-Identifier: Apache-2.0
#
# The PyPI wheels of ROS 2 export include directories of the machine they were built on, such as
# /opt/python/cp311-cp311/include, and CMake refuses an imported target whose include directory
# does not exist. Given as CMAKE_PROJECT_INCLUDE, this file drops such directories after the last
# find_package(). With an installed ROS it finds nothing to drop.

function(drop_missing_include_directories)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(kept "")
    foreach(directory IN LISTS directories)
      if(NOT IS_ABSOLUTE "${directory}" OR EXISTS "${directory}")
        list(APPEND kept "${directory}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()

cmake_language(DEFER CALL drop_missing_include_directories)
